// CachedAttention: its checks, the rows' lengths and masks, the cache, and the division of the work into tasks.
#include "cached_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "scratch.h"

namespace {

constexpr int64_t MOST_HEADS = 65536;

// Scores of a decode step, over all heads and rows: fewer are done before a second thread has begun.
constexpr int64_t WORTH_THREADS = 400;

// Query rows (tokens x heads of a group) of a block: their scores stay in the cache, and a tile of keys serves all.
constexpr int64_t BLOCK_ROWS = 32;

// One row of the batch.
struct Row {
  int64_t slots, tokens;         // after this run, and in this run
  int64_t first = 0;             // the first visible slot, or `slots`
  std::vector<int64_t> visible;  // all visible slots, only where some between them are hidden

  int64_t past() const { return slots - tokens; }
  bool has_holes() const { return !visible.empty(); }

  // The number of slots that a token sees; they are the first so many of those that any token of the row sees.
  int64_t seen_by(int64_t token) const {
    const int64_t end = past() + token + 1;
    if (has_holes()) return std::lower_bound(visible.begin(), visible.end(), end) - visible.begin();
    return std::max<int64_t>(0, end - first);
  }
};

// The keys and values [slots, D] that the tokens of a row see.
struct Cache {
  const float* keys;
  const float* values;
};

void copy(float* to, const float* from, int64_t count) {
  if (count > 0) std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

void clear(float* to, int64_t count) { std::fill_n(to, count, 0.0f); }

// The inputs, with shapes that fit each other.
struct Inputs {
  Tensor<const float> qkv, past_key, past_value;
  Tensor<const int64_t> mask;
  Tensor<const int32_t> row_lengths, row_tokens;
  Tensor<const float> cos, sin;
  Tensor<const int64_t> positions;
  Tensor<const float> q_norm, k_norm;

  explicit Inputs(const Context& context)
      : qkv(context.input<float>(0, "qkv")),
        past_key(context.input<float>(1, "past_key")),
        past_value(context.input<float>(2, "past_value")),
        mask(context.input<int64_t>(3, "attention_mask")),
        row_lengths(context.input<int32_t>(4, "row_lengths")),
        row_tokens(context.input<int32_t>(5, "row_tokens")),
        cos(context.input<float>(6, "cos")),
        sin(context.input<float>(7, "sin")),
        positions(context.input<int64_t>(8, "position_ids")),
        q_norm(context.optional_input<float>(9, "q_norm")),
        k_norm(context.optional_input<float>(10, "k_norm")) {}
};

[[noreturn]] void refuse(const std::string& message) { throw InvalidArgument("CachedAttention: " + message); }

template <class T>
void expect(const Tensor<T>& tensor, const char* name, std::initializer_list<int64_t> sizes) {
  if (!(tensor.shape == Shape(sizes)))
    refuse(std::string(name) + " is " + tensor.shape.text() + ", expected " + Shape(sizes).text());
}

template <class T>
void expect_rank(const Tensor<T>& tensor, const char* name, size_t rank) {
  if (tensor.shape.rank() != rank)
    refuse(std::string(name) + " is " + tensor.shape.text() + ", expected " + std::to_string(rank) + " axes");
}

// A tensor that has a first axis of the batch's rows, or one for all of them.
template <class T>
void expect_rows(const Tensor<T>& tensor, const char* name, size_t rank, int64_t batch) {
  expect_rank(tensor, name, rank);
  if (tensor.shape[0] != batch && tensor.shape[0] != 1)
    refuse(std::string(name) + " is " + tensor.shape.text() + ", expected " + std::to_string(batch) + " rows or one");
}

// The numbers of a row in a tensor that has them for each row, or once for all.
template <class T>
const T* row_of(const Tensor<const T>& tensor, int64_t row) {
  const int64_t width = tensor.shape.rank() > 1 ? tensor.shape.last() : 1;
  return tensor.data + (tensor.shape[0] > 1 ? row * width : 0);
}

// One run: its sizes, its rows, and the work on each head of each row.
class Run {
 public:
  Run(const Context& context, int64_t heads, int64_t key_heads, float scale, float epsilon, const Kernels& kernels);
  void compute();

 private:
  void check_shapes() const;
  Row row_at(int64_t index) const;
  void find_visible(int64_t index, Row& row) const;
  void check_positions(int64_t index, const Row& row) const;
  void copy_past() const;
  void append(int64_t row, int64_t head, int64_t token) const;
  void query(int64_t row, int64_t head, int64_t token, float* to) const;
  Cache visible_cache(int64_t row, int64_t head, float* gathered) const;
  int64_t gathered_floats(const Row& row) const;
  void attend_token(int64_t row, int64_t head) const;
  void attend_block(int64_t row, int64_t head, int64_t first) const;
  void attend_tokens(int64_t row, int64_t head, int64_t first, int64_t end) const;
  void decode() const;
  void prefill() const;

  const float* source(int64_t row, int64_t token) const { return in_.qkv.data + (row * tokens_ + token) * width_; }
  float* mixed_at(int64_t row, int64_t head, int64_t token) const {
    return mixed_ + ((row * tokens_ + token) * heads_ + head * group_) * dim_;
  }
  int64_t cache_at(int64_t row, int64_t head) const { return (row * key_heads_ + head) * capacity_ * dim_; }

  const Context& context_;
  const Inputs in_;
  const int64_t heads_, key_heads_, group_;
  const float scale_, epsilon_;
  int64_t batch_ = 0, tokens_ = 0, width_ = 0, past_capacity_ = 0, capacity_ = 0, dim_ = 0;
  const HeadKernels* kernels_ = nullptr;
  float *mixed_ = nullptr, *keys_ = nullptr, *values_ = nullptr;
  std::vector<Row> rows_;
};

Run::Run(const Context& context, int64_t heads, int64_t key_heads, float scale, float epsilon, const Kernels& kernels)
    : context_(context),
      in_(context),
      heads_(heads),
      key_heads_(key_heads),
      group_(heads / key_heads),
      scale_(scale),
      epsilon_(epsilon) {
  expect_rank(in_.qkv, "qkv", 3);
  expect_rank(in_.past_key, "past_key", 4);
  expect_rank(in_.mask, "attention_mask", 2);
  batch_ = in_.qkv.shape[0];
  tokens_ = in_.qkv.shape[1];
  past_capacity_ = in_.past_key.shape[2];
  dim_ = in_.past_key.shape[3];
  for (const HeadKernels& each : kernels.heads)
    if (each.head_dim == dim_) kernels_ = &each;
  if (!kernels_) refuse("heads of width " + std::to_string(dim_) + ", expected 64, 96 or 128");
  width_ = (heads_ + 2 * key_heads_) * dim_;
  capacity_ = std::max(past_capacity_, in_.mask.shape[1]);
  check_shapes();
  for (int64_t index = 0; index < batch_; index++) rows_.push_back(row_at(index));
  const Shape cache{batch_, key_heads_, capacity_, dim_};
  mixed_ = context.output(0, {batch_, tokens_, heads_ * dim_}, "mixed");
  keys_ = context.output(1, cache, "present_key");
  values_ = context.output(2, cache, "present_value");
}

void Run::check_shapes() const {
  expect(in_.qkv, "qkv", {batch_, tokens_, width_});
  expect(in_.past_key, "past_key", {batch_, key_heads_, past_capacity_, dim_});
  expect(in_.past_value, "past_value", {batch_, key_heads_, past_capacity_, dim_});
  expect_rows(in_.mask, "attention_mask", 2, batch_);
  expect_rows(in_.row_lengths, "row_lengths", 1, batch_);
  expect_rows(in_.row_tokens, "row_tokens", 1, batch_);
  expect_rank(in_.cos, "cos", 2);
  expect(in_.cos, "cos", {in_.cos.shape[0], dim_ / 2});
  expect(in_.sin, "sin", {in_.cos.shape[0], dim_ / 2});
  expect_rows(in_.positions, "position_ids", 2, batch_);
  expect(in_.positions, "position_ids", {in_.positions.shape[0], tokens_});
  if (in_.q_norm.data) expect(in_.q_norm, "q_norm", {dim_});
  if (in_.k_norm.data) expect(in_.k_norm, "k_norm", {dim_});
}

Row Run::row_at(int64_t index) const {
  Row row;
  row.slots = std::min<int64_t>(in_.mask.shape[1], *row_of(in_.row_lengths, index));
  row.tokens = std::min<int64_t>(tokens_, *row_of(in_.row_tokens, index));
  if (row.tokens < 0 || row.slots < row.tokens)
    refuse("row " + std::to_string(index) + " has " + std::to_string(row.tokens) + " tokens and " +
           std::to_string(row.slots) + " slots, expected at least 0 and as many slots");
  check_positions(index, row);
  if (row.tokens > 0) find_visible(index, row);
  return row;
}

void Run::check_positions(int64_t index, const Row& row) const {
  const int64_t *positions = row_of(in_.positions, index), end = in_.cos.shape[0];
  for (int64_t token = 0; token < row.tokens; token++)
    if (positions[token] < 0 || positions[token] >= end)
      refuse("row " + std::to_string(index) + " has a token at position " + std::to_string(positions[token]) +
             ", expected 0 to " + std::to_string(end - 1));
}

void Run::find_visible(int64_t index, Row& row) const {
  const int64_t *mask = row_of(in_.mask, index), *end = mask + row.slots;
  const auto is_visible = [](int64_t each) { return each != 0; };
  const int64_t* first = std::find_if(mask, end, is_visible);
  row.first = first - mask;
  if (std::find(first, end, 0) == end) return;
  for (const int64_t* slot = first; slot < end; slot++)
    if (is_visible(*slot)) row.visible.push_back(slot - mask);
}

void Run::compute() {
  copy_past();
  if (batch_ == 0 || tokens_ == 0) return;
  if (tokens_ == 1)
    decode();
  else
    prefill();
}

// Where the present is not the memory of the past, it gets a copy, and zeros in the slots that the past lacks.
void Run::copy_past() const {
  const std::pair<float*, const float*> caches[] = {{keys_, in_.past_key.data}, {values_, in_.past_value.data}};
  const int64_t old = past_capacity_ * dim_, now = capacity_ * dim_;
  for (const auto& [present, past] : caches) {
    if (present == past && past_capacity_ == capacity_) continue;
    if (present == past) refuse("the memory of the past has fewer slots than the present");
    for (int64_t head = 0; head < batch_ * key_heads_; head++) {
      copy(present + head * now, past + head * old, old);
      clear(present + head * now + old, now - old);
    }
  }
}

// Writes a token's key, normalized and rotated, and its value into their slot.
void Run::append(int64_t row, int64_t head, int64_t token) const {
  const float* key = source(row, token) + (heads_ + head) * dim_;
  const int64_t position = row_of(in_.positions, row)[token] * (dim_ / 2);
  const int64_t at = cache_at(row, head) + (rows_[static_cast<size_t>(row)].past() + token) * dim_;
  kernels_->rotate(key, in_.k_norm.data, epsilon_, in_.cos.data + position, in_.sin.data + position, 1.0f, keys_ + at);
  copy(values_ + at, key + key_heads_ * dim_, dim_);
}

// Writes the queries [group, D] of a token, normalized, rotated and scaled.
void Run::query(int64_t row, int64_t head, int64_t token, float* to) const {
  const float* from = source(row, token) + head * group_ * dim_;
  const int64_t position = row_of(in_.positions, row)[token] * (dim_ / 2);
  const float *cos = in_.cos.data + position, *sin = in_.sin.data + position;
  for (int64_t at = 0; at < group_ * dim_; at += dim_)
    kernels_->rotate(from + at, in_.q_norm.data, epsilon_, cos, sin, scale_, to + at);
}

int64_t Run::gathered_floats(const Row& row) const {
  return 2 * static_cast<int64_t>(row.visible.size()) * dim_;  // none without holes
}

// The visible part of a head's cache: where it lies, or gathered where hidden slots lie between visible ones.
Cache Run::visible_cache(int64_t index, int64_t head, float* gathered) const {
  const Row& row = rows_[static_cast<size_t>(index)];
  const float *keys = keys_ + cache_at(index, head), *values = values_ + cache_at(index, head);
  if (!row.has_holes()) return {keys + row.first * dim_, values + row.first * dim_};
  float *to_keys = gathered, *to_values = gathered + gathered_floats(row) / 2;
  for (size_t i = 0; i < row.visible.size(); i++) {
    const int64_t to = static_cast<int64_t>(i) * dim_, from = row.visible[i] * dim_;
    copy(to_keys + to, keys + from, dim_);
    copy(to_values + to, values + from, dim_);
  }
  return {to_keys, to_values};
}

void Run::attend_token(int64_t index, int64_t head) const {
  const Row& row = rows_[static_cast<size_t>(index)];
  const int64_t seen = row.seen_by(0), queries = group_ * dim_;
  if (seen == 0) return clear(mixed_at(index, head, 0), queries);
  float* memory = scratch<CachedAttention>(queries + gathered_floats(row) + token_scratch(seen));
  float *gathered = memory + queries, *scores = gathered + gathered_floats(row);
  query(index, head, 0, memory);
  const Cache cache = visible_cache(index, head, gathered);
  kernels_->attend_token(memory, group_, cache.keys, cache.values, seen, scores, mixed_at(index, head, 0));
}

// Attention of a row's tokens from `first` to `end` - 1 together.
void Run::attend_tokens(int64_t index, int64_t head, int64_t first, int64_t end) const {
  const Row& row = rows_[static_cast<size_t>(index)];
  const int64_t tokens = end - first, query_rows = round_up(tokens * group_, 4);
  int64_t visible[BLOCK_ROWS];
  for (int64_t token = 0; token < tokens; token++) visible[token] = row.seen_by(first + token);
  const int64_t queries = query_rows * dim_, gathered = gathered_floats(row);
  float* memory = scratch<CachedAttention>(queries + gathered + block_scratch(query_rows, visible[tokens - 1], dim_));
  for (int64_t token = 0; token < tokens; token++) query(index, head, first + token, memory + token * group_ * dim_);
  clear(memory + tokens * group_ * dim_, (query_rows - tokens * group_) * dim_);
  const Cache cache = visible_cache(index, head, memory + queries);
  kernels_->attend_block({memory, cache.keys, cache.values, visible, tokens, group_, mixed_at(index, head, first),
                          heads_ * dim_, memory + queries + gathered});
}

// The block of a row's tokens that begins at `first`. A row with one token is computed as in a decode step.
void Run::attend_block(int64_t index, int64_t head, int64_t first) const {
  const int64_t block = std::max<int64_t>(1, BLOCK_ROWS / group_), last = std::min(tokens_, first + block);
  const int64_t end = std::min(rows_[static_cast<size_t>(index)].tokens, last);
  if (end == 1)
    attend_token(index, head);
  else if (end > first)
    attend_tokens(index, head, first, end);
  for (int64_t token = std::max(first, end); token < last; token++) clear(mixed_at(index, head, token), group_ * dim_);
}

void Run::decode() const {
  int64_t scores = 0;
  for (const Row& row : rows_) scores += row.slots * heads_;
  const auto head = [&](size_t i) {
    const int64_t row = static_cast<int64_t>(i) / key_heads_, head = static_cast<int64_t>(i) % key_heads_;
    if (rows_[static_cast<size_t>(row)].tokens == 0) return clear(mixed_at(row, head, 0), group_ * dim_);
    append(row, head, 0);
    attend_token(row, head);
  };
  context_.run(static_cast<size_t>(batch_ * key_heads_), scores > WORTH_THREADS, head);
}

void Run::prefill() const {
  const int64_t heads = batch_ * key_heads_, block = std::max<int64_t>(1, BLOCK_ROWS / group_);
  const auto fill = [&](size_t i) {
    const int64_t row = static_cast<int64_t>(i) / key_heads_, head = static_cast<int64_t>(i) % key_heads_;
    for (int64_t token = 0; token < rows_[static_cast<size_t>(row)].tokens; token++) append(row, head, token);
  };
  context_.run(static_cast<size_t>(heads), true, fill);
  const int64_t blocks = round_up(tokens_, block) / block;
  const auto attend = [&](size_t i) {  // from the last block, which sees the most slots, to the first
    const int64_t at = blocks - 1 - static_cast<int64_t>(i) / heads, head = static_cast<int64_t>(i) % heads;
    attend_block(head / key_heads_, head % key_heads_, at * block);
  };
  context_.run(static_cast<size_t>(blocks * heads), true, attend);
}

}  // namespace

CachedAttention::CachedAttention(const Attributes& attributes, const Kernels& kernels)
    : kernels_(kernels),
      heads_(attributes.integer("num_heads")),
      key_heads_(attributes.integer("kv_num_heads")),
      scale_(attributes.number("scale")),
      epsilon_(attributes.number("epsilon")) {
  if (key_heads_ < 1 || heads_ < key_heads_ || heads_ > MOST_HEADS || heads_ % key_heads_ != 0)
    refuse("num_heads is " + std::to_string(heads_) + " and kv_num_heads " + std::to_string(key_heads_) +
           ", expected a multiple of it");
  if (scale_ == 0.0f || !std::isfinite(scale_) || !(epsilon_ >= 0.0f))
    refuse("scale or epsilon is out of range");
}

void CachedAttention::run(const Context& context) const {
  Run(context, heads_, key_heads_, scale_, epsilon_, kernels_).compute();
}
