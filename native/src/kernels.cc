// The kernels of one instruction set: compiled with its flags, and with its name for them as KERNELS.
#include "kernels.h"

#include "attention_kernels.h"
#include "product_kernels.h"
#include "row_kernels.h"

const Kernels KERNELS = {LANES, swiglu, skip_rms_norm, {head_kernels<64>, head_kernels<96>, head_kernels<128>}, {product_kernels<4>, product_kernels<8>}};
