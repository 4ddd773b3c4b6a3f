// RUN: quern-opt %s --quern-lower-kernels=target=x86-64-v3 | FileCheck %s -enable-var-scope --check-prefixes=CHECK,V8
// RUN: quern-opt %s --quern-lower-kernels=target=znver4 | FileCheck %s -enable-var-scope --check-prefixes=CHECK,V16
// RUN: not quern-opt %s --quern-lower-kernels=target=vax 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: unknown target 'vax'; known targets: native, aarch64, x86-64-v3

// A row of 70: whole vectors, then one of what is left.
// CHECK-LABEL: func.func private @norm
func.func private @norm(%x: memref<8x70xf32>, %g: memref<70xf16>, %out: memref<8x70xf32>,
                        %b: index, %e: index, %t: index) {
  // CHECK: scf.for
  // V8: vector.load %{{.*}} vector<8xf32>
  // V16: vector.load %{{.*}} vector<16xf32>
  // CHECK: math.sqrt
  // CHECK: arith.extf %{{.*}} : vector<6xf16> to vector<6xf32>
  // CHECK: vector.store %{{.*}} vector<6xf32>
  // CHECK-NOT: quern_kernel.
  quern_kernel.tile_rms_norm %x, %g to %out rows %b, %e {epsilon = 1.0e-5 : f32}
      : memref<8x70xf32>, memref<70xf16>, memref<8x70xf32>
  return
}

// No call of a library: tanh becomes arithmetic.
// CHECK-LABEL: func.func private @cap
func.func private @cap(%x: memref<8x64xf32>, %b: index, %e: index, %t: index) {
  // CHECK-NOT: math.tanh
  // CHECK: arith.divf
  quern_kernel.tile_softcap %x columns %b, %e rows %t {cap = 30.0 : f32} : memref<8x64xf32>
  return
}

// Scores have a key a lane, values a dimension a lane: no sum across lanes but the softmax's.
// CHECK-LABEL: func.func private @attention
func.func private @attention(%q: memref<4x128xf32>, %k: memref<2x4096xf16>, %v: memref<2x4096xf16>,
                             %p: memref<4xi32>, %s: memref<4xi32>, %out: memref<4x128xf32>,
                             %b: index, %e: index, %t: index) {
  // CHECK: vector.load %{{.*}} : memref<8192xf16>, vector<16xf16>
  // CHECK: math.fma %{{.*}} : vector<16xf32>
  // CHECK: arith.cmpi sle, %{{.*}} : vector<16xi32>
  // CHECK: vector.load %{{.*}} : memref<8192xf16>, vector<16xf16>
  quern_kernel.tile_attention %q over %k, %v at %p, %s to %out units %b, %e tokens %t
      {heads = 4, kv_heads = 2, capacity = 64, scale = 0.125 : f32, token_block = 1, row_block = 2}
      : memref<4x128xf32>, memref<2x4096xf16>, memref<2x4096xf16>, memref<4xi32>, memref<4xi32>, memref<4x128xf32>
  return
}

// Slices of experts are quantized as rows; each token multiplies with its own experts' matrices.
// CHECK-LABEL: func.func private @experts
func.func private @experts(%x: memref<2x3x64xf32>, %q: memref<1536xi8>, %w: memref<13824xi8>,
                           %ids: memref<2x3xi32>, %out: memref<2x3x96xf32>,
                           %b: index, %e: index, %t: index) {
  // CHECK: memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [6, 64], strides: [64, 1]
  quern_kernel.tile_quantize q8 %x to %q rows %b, %e : memref<2x3x64xf32>, memref<1536xi8>
  // CHECK: memref.alloca_scope
  // CHECK-NOT: quern_kernel.
  quern_kernel.tile_expert_linear q8 %q, %w[%ids] to %out panels %b, %e tokens %t
      of tensor<4x96x64xf32, #quern.q4_0> {sliced}
      : memref<1536xi8>, memref<13824xi8>, memref<2x3xi32>, memref<2x3x96xf32>
  return
}
