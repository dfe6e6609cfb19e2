// What the library exports: the registration of its operators, and the width of the vectors that they use here.
#include <iterator>
#include <map>
#include <mutex>

#include "cached_attention.h"
#include "expert_rows.h"
#include "quantized_matmul.h"
#include "row_operators.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

// The fastest kernels that the CPU and its operating system run, with vectors of at most `lanes` floats; else null.
const Kernels* find_kernels(int lanes) {
#ifdef MINIMIND_EDGE_X86
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && avx512 && lanes >= 16) return &avx512_kernels;
  if (avx2 && lanes >= 8) return &avx2_kernels;
#endif
  (void)lanes;
  return nullptr;
}

std::atomic<const Kernels*> chosen{find_kernels(MOST_LANES)};

struct Argument {
  OrtElementType type;
  OrtCharacteristic characteristic = ORT_REQUIRED;
};

template <class Operator>
struct Signature;

template <>
struct Signature<SwiGLU> {
  static constexpr const char* name = "SwiGLU";
  static constexpr Argument inputs[] = {{ORT_FLOAT}};
  static constexpr Argument outputs[] = {{ORT_FLOAT}};
};

template <>
struct Signature<SkipRMSNorm> {
  static constexpr const char* name = "SkipRMSNorm";
  static constexpr Argument inputs[] = {{ORT_FLOAT}, {ORT_FLOAT}, {ORT_FLOAT}};
  static constexpr Argument outputs[] = {{ORT_FLOAT}, {ORT_FLOAT, ORT_OPTIONAL}};
};

template <>
struct Signature<CachedAttention> {
  static constexpr const char* name = "CachedAttention";
  static constexpr Argument inputs[] = {
      {ORT_FLOAT}, {ORT_FLOAT}, {ORT_FLOAT},                              // qkv, past_key, past_value
      {ORT_INT64}, {ORT_INT32}, {ORT_INT32},                              // attention_mask, row_lengths, row_tokens
      {ORT_FLOAT}, {ORT_FLOAT}, {ORT_INT64},                              // cos, sin, position_ids
      {ORT_FLOAT, ORT_OPTIONAL}, {ORT_FLOAT, ORT_OPTIONAL}};              // weights of the query and the key norm
  static constexpr Argument outputs[] = {{ORT_FLOAT}, {ORT_FLOAT}, {ORT_FLOAT}};  // mixed, present_key, present_value
};

template <>
struct Signature<QuantizedMatMul> {
  static constexpr const char* name = "QuantizedMatMul";
  static constexpr Argument inputs[] = {{ORT_FLOAT}, {ORT_UINT8}, {ORT_FLOAT}, {ORT_UINT8, ORT_OPTIONAL}};
  static constexpr Argument outputs[] = {{ORT_FLOAT}};
};

template <>
struct Signature<GatherByExpert> {
  static constexpr const char* name = "GatherByExpert";
  static constexpr Argument inputs[] = {{ORT_FLOAT}, {ORT_INT64}};
  static constexpr Argument outputs[] = {{ORT_FLOAT, ORT_VARIADIC}};
};

template <>
struct Signature<ScatterByExpert> {
  static constexpr const char* name = "ScatterByExpert";
  static constexpr Argument inputs[] = {{ORT_INT64}, {ORT_FLOAT, ORT_VARIADIC}};
  static constexpr Argument outputs[] = {{ORT_FLOAT}};
};

// A node's operator, made when a session is, with the interface of the ONNX Runtime that made it.
template <class Operator>
struct Node {
  const OrtApi& api;
  Operator computes;
};

template <class Operator>
OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** node) noexcept {
  return as_status(*api, [&] {
    const Attributes attributes(*api, info);
    *node = new Node<Operator>{*api, Operator(attributes, *chosen.load())};
  });
}

template <class Operator>
OrtStatus* compute(void* kernel, OrtKernelContext* context) noexcept {
  const auto& node = *static_cast<const Node<Operator>*>(kernel);
  return as_status(node.api, [&] { node.computes.run(Context(node.api, context)); });
}

// The functions by which ONNX Runtime asks about an operator.
template <class Operator>
OrtCustomOp described() {
  using About = Signature<Operator>;
  using Self = const OrtCustomOp*;
  OrtCustomOp op{};
  op.version = ORT_ABI_VERSION;
  op.GetName = [](Self) { return About::name; };
  op.GetExecutionProviderType = [](Self) { return "CPUExecutionProvider"; };
  op.GetInputTypeCount = [](Self) { return std::size(About::inputs); };
  op.GetInputType = [](Self, size_t i) { return About::inputs[i].type; };
  op.GetInputCharacteristic = [](Self, size_t i) { return About::inputs[i].characteristic; };
  op.GetInputMemoryType = [](Self, size_t) { return ORT_MEM_DEFAULT; };
  op.GetOutputTypeCount = [](Self) { return std::size(About::outputs); };
  op.GetOutputType = [](Self, size_t i) { return About::outputs[i].type; };
  op.GetOutputCharacteristic = [](Self, size_t i) { return About::outputs[i].characteristic; };
  op.GetVariadicInputMinArity = op.GetVariadicInputHomogeneity = [](Self) { return 1; };
  op.GetVariadicOutputMinArity = op.GetVariadicOutputHomogeneity = [](Self) { return 1; };
  op.GetStartVersion = op.GetEndVersion = [](Self) { return 1; };
  op.CreateKernelV2 = create<Operator>;
  op.KernelComputeV2 = compute<Operator>;
  op.KernelDestroy = [](void* node) { delete static_cast<Node<Operator>*>(node); };
  return op;
}

// The domain `minimind_edge` with the operators. Sessions hold pointers to it: it lives as long as the process,
// one for each copy of ONNX Runtime there.
OrtCustomOpDomain* domain_of(const OrtApi& api) {
  static std::mutex mutex;
  static std::map<const OrtApi*, OrtCustomOpDomain*> domains;
  static const OrtCustomOp ops[] = {described<SwiGLU>(), described<SkipRMSNorm>(), described<CachedAttention>(),
                                    described<QuantizedMatMul>(), described<GatherByExpert>(), described<ScatterByExpert>()};
  const std::lock_guard<std::mutex> lock(mutex);
  OrtCustomOpDomain*& domain = domains[&api];
  if (!domain) {
    OrtCustomOpDomain* made = nullptr;
    check(api.CreateCustomOpDomain("minimind_edge", &made));
    for (const OrtCustomOp& op : ops) check(api.CustomOpDomain_Add(made, &op));
    domain = made;
  }
  return domain;
}

}  // namespace

// 16 or 8: the floats of a vector; 0 where the CPU has no instructions that the operators are compiled for.
EXPORTED int minimind_edge_native_lanes(void) {
  const Kernels* kernels = chosen;
  return kernels ? kernels->lanes : 0;
}

// For tests: operators of sessions that are made from now on use vectors of at most so many floats. Returns how many.
EXPORTED int minimind_edge_native_limit_lanes(int lanes) {
  chosen = find_kernels(lanes);
  return minimind_edge_native_lanes();
}

// By this name ONNX Runtime's SessionOptions.register_custom_ops_library finds the operators.
EXPORTED OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_ABI_VERSION);
  if (!api) return base->GetApi(1)->CreateStatus(ORT_FAIL, "minimind-edge-native needs ONNX Runtime 1.17 or later");
  if (!chosen.load()) return api->CreateStatus(ORT_NOT_IMPLEMENTED, "minimind-edge-native has no operators for this CPU");
  return as_status(*api, [&] { check(api->AddCustomOpDomain(options, domain_of(*api))); });
}
