// RUN: quern-opt %s --verify-roundtrip | FileCheck %s -enable-var-scope
// RUN: quern-opt %s --emit-bytecode | quern-opt | FileCheck %s -enable-var-scope

// CHECK-LABEL: func.func private @rows
func.func private @rows(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access update_part>},
                        %gain: memref<64xbf16> {quern_kernel.access = #quern_kernel<access read>},
                        %begin: index, %end: index, %tokens: index) {
  // CHECK: quern_kernel.tile_rms_norm %{{.*}}, %{{.*}} to %{{.*}} rows %{{.*}}, %{{.*}} {epsilon = 9.99999974E-6 : f32, unit_offset} : memref<8x64xf32>, memref<64xbf16>, memref<8x64xf32>
  quern_kernel.tile_rms_norm %x, %gain to %x rows %begin, %end {epsilon = 1.0e-5 : f32, unit_offset}
      : memref<8x64xf32>, memref<64xbf16>, memref<8x64xf32>
  // CHECK: quern_kernel.tile_layer_norm %{{.*}}, %{{.*}} bias %{{.*}} to
  quern_kernel.tile_layer_norm %x, %gain bias %gain to %x rows %begin, %end {epsilon = 1.0e-5 : f32}
      : memref<8x64xf32>, memref<64xbf16> bias memref<64xbf16>, memref<8x64xf32>
  // CHECK: quern_kernel.tile_gated_activation gelu_tanh %{{.*}}, %{{.*}} to %{{.*}} columns
  quern_kernel.tile_gated_activation gelu_tanh %x, %x to %x columns %begin, %end rows %tokens
      : memref<8x64xf32>, memref<8x64xf32>, memref<8x64xf32>
  // CHECK: quern_kernel.tile_softcap
  quern_kernel.tile_softcap %x columns %begin, %end rows %tokens {cap = 30.0 : f32} : memref<8x64xf32>
  return
}

// CHECK-LABEL: func.func private @products
func.func private @products(%x: memref<8x64xf32>, %q: memref<1024xi8>, %w: memref<3456xi8>,
                            %out: memref<8x96xf32>, %begin: index, %end: index, %tokens: index) {
  // CHECK: quern_kernel.tile_quantize q8 %{{.*}} to
  quern_kernel.tile_quantize q8 %x to %q rows %begin, %end : memref<8x64xf32>, memref<1024xi8>
  // CHECK: quern_kernel.tile_linear q8 %{{.*}}, %{{.*}} plus %{{.*}} to %{{.*}} panels {{.*}} of tensor<96x64xf32, #quern.q4_0>
  quern_kernel.tile_linear q8 %q, %w plus %out to %out panels %begin, %end tokens %tokens
      of tensor<96x64xf32, #quern.q4_0>
      : memref<1024xi8>, memref<3456xi8> plus memref<8x96xf32>, memref<8x96xf32>
  return
}

// CHECK-LABEL: quern_kernel.schedule @step max_tokens 8 {
quern_kernel.schedule @step max_tokens 8 {
  // CHECK: %[[N:.*]] = quern_kernel.step_count tokens
  %n = quern_kernel.step_count tokens
  // CHECK: quern_kernel.units 3 per 16 of %[[N]]
  %blocks = quern_kernel.units 3 per 16 of %n
  // CHECK: quern_kernel.units 6{{$}}
  %panels = quern_kernel.units 6
  // CHECK: quern_kernel.buffer private : memref<8x64xf32>
  %x = quern_kernel.buffer private : memref<8x64xf32>
  // CHECK: quern_kernel.weight 3 "gain" {byte_offset = 64 : i64} : memref<64xbf16>
  %gain = quern_kernel.weight 3 "gain" {byte_offset = 64 : i64} : memref<64xbf16>
  // CHECK: quern_kernel.cache at 4096 : memref<4x4096xf16>
  %cache = quern_kernel.cache at 4096 : memref<4x4096xf16>
  // CHECK: quern_kernel.step_array logits : memref<8x96xf32>
  %logits = quern_kernel.step_array logits : memref<8x96xf32>
  // CHECK: quern_kernel.launch @rows(%{{.*}}, %{{.*}}) over rows %[[N]] tokens %[[N]] replicated : memref<8x64xf32>, memref<64xbf16>
  quern_kernel.launch @rows(%x, %gain) over rows %n tokens %n replicated
      : memref<8x64xf32>, memref<64xbf16>
  // CHECK: quern_kernel.barrier
  quern_kernel.barrier
}
