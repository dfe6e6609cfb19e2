// The operator CachedAttention: attention over a KV cache whose rows have lengths of their own.
#pragma once

#include "context.h"
#include "kernels.h"

// Query and key norms, RoPE, the append to the cache, and grouped-query attention, of B rows with up to S tokens each.
//
// inputs: 0 qkv [B, S, (H + 2K) D], 1 past_key and 2 past_value [B, K, P, D], 3 attention_mask [B or 1, T],
// 4 row_lengths and 5 row_tokens [B or 1], 6 cos and 7 sin [positions, D/2], 8 position_ids [B or 1, S], and optional
// 9 q_norm and 10 k_norm [D]. outputs: 0 mixed [B, S, H D], 1 present_key and 2 present_value [B, K, max(P, T), D],
// which may be the memory of the past.
//
// A row has min(T, row_lengths) slots and min(S, row_tokens) tokens, which take the last of its slots. A token sees the
// slots up to its own for which the mask is not 0. What sees nothing, or is past a row's tokens, gives zeros.
//
// The bits of a row depend on that row alone: on its number of tokens, but not on S.
class CachedAttention {
 public:
  CachedAttention(const Attributes& attributes, const Kernels& kernels);
  void run(const Context& context) const;

 private:
  const Kernels& kernels_;
  int64_t heads_, key_heads_;
  float scale_, epsilon_;
};
