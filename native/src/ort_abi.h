// The part of ONNX Runtime's C interface that the operators use, declared by what its ABI fixes.
//
// OrtApi is a table of function pointers that only ever grows at its end, so that an entry keeps its position. The
// positions here are those of API version 17, the first with KernelContext_ParallelFor; every later ONNX Runtime gives
// out a table of that version. Building needs no header of ONNX Runtime this way. tests/native compares positions and
// types with the header where it is given one.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;
struct OrtValue;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtCustomOp;

constexpr uint32_t ORT_ABI_VERSION = 17;

enum OrtErrorCode : int { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9 };
enum OrtElementType : int { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT32 = 6, ORT_INT64 = 7 };
enum OrtCharacteristic : int { ORT_REQUIRED = 0, ORT_OPTIONAL = 1, ORT_VARIADIC = 2 };
enum OrtMemType : int { ORT_MEM_DEFAULT = 0 };

using OrtUnused = void (*)();

struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
  OrtUnused unused_1[25];
  OrtStatus* (*CreateCustomOpDomain)(const char* domain, OrtCustomOpDomain** out);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain, const OrtCustomOp* op);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options, OrtCustomOpDomain* domain);
  OrtUnused unused_29[22];
  OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** out);
  OrtUnused unused_52[9];
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info, size_t* out);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo* info, int64_t* sizes, size_t count);
  OrtUnused unused_63[2];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue* value, OrtTensorTypeAndShapeInfo** out);
  OrtUnused unused_66[19];
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo* info, const char* name, float* out);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo* info, const char* name, int64_t* out);
  OrtUnused unused_87[3];
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext* context, size_t index, const OrtValue** out);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context, size_t index, const int64_t* sizes, size_t rank,
                                        OrtValue** out);
  OrtUnused unused_92[1];
  void (*ReleaseStatus)(OrtStatus* status);
  OrtUnused unused_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);
  OrtUnused unused_100[130];
  OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo* info, size_t* out);
  OrtUnused unused_231[18];
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo* info, size_t index, int* is_constant,
                                                  const OrtValue** out);
  OrtUnused unused_250[24];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext* context, void (*task)(void* data, size_t index),
                                          size_t count, size_t batches, void* data);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// What ONNX Runtime calls to learn about an operator and to run it. Later versions append functions, which it does not
// look for where `version` is 17.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info);
  const char* (*GetName)(const OrtCustomOp* op);
  const char* (*GetExecutionProviderType)(const OrtCustomOp* op);
  OrtElementType (*GetInputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp* op);
  OrtElementType (*GetOutputType)(const OrtCustomOp* op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp* op);
  void (*KernelCompute)(void* kernel, OrtKernelContext* context);
  void (*KernelDestroy)(void* kernel);
  OrtCharacteristic (*GetInputCharacteristic)(const OrtCustomOp* op, size_t index);
  OrtCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp* op, size_t index);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp* op, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp* op);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp* op);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp* op);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp* op);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext* context);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp* op, void* context);
  int (*GetStartVersion)(const OrtCustomOp* op);
  int (*GetEndVersion)(const OrtCustomOp* op);
};

}  // extern "C"

#define ORT_AT(entry, position) \
  static_assert(offsetof(OrtApi, entry) == (position) * sizeof(OrtUnused), #entry " is entry " #position)
ORT_AT(CreateStatus, 0);
ORT_AT(CreateCustomOpDomain, 26);
ORT_AT(CustomOpDomain_Add, 27);
ORT_AT(AddCustomOpDomain, 28);
ORT_AT(GetTensorMutableData, 51);
ORT_AT(GetDimensionsCount, 61);
ORT_AT(GetDimensions, 62);
ORT_AT(GetTensorTypeAndShape, 65);
ORT_AT(KernelInfoGetAttribute_float, 85);
ORT_AT(KernelInfoGetAttribute_int64, 86);
ORT_AT(KernelContext_GetInput, 90);
ORT_AT(KernelContext_GetOutput, 91);
ORT_AT(ReleaseStatus, 93);
ORT_AT(ReleaseTensorTypeAndShapeInfo, 99);
ORT_AT(KernelInfo_GetInputCount, 230);
ORT_AT(KernelInfoGetConstantInput_tensor, 249);
ORT_AT(KernelContext_ParallelFor, 274);
#undef ORT_AT
