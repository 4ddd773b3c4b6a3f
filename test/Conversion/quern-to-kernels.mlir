// RUN: quern-opt %s --quern-to-kernels=max-tokens=32 | FileCheck %s -enable-var-scope
// RUN: quern-opt %s --quern-to-kernels=max-tokens=32 --quern-insert-barriers | FileCheck %s -enable-var-scope --check-prefix=BARRIERS

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1, 0.01, 0.001]>
quern.file @f path "f.gguf" size 1000000
quern.weight @embd : tensor<96x32xf32, #quern.q8_0> layout<gguf> from [data @f at 0 size 3264]
quern.weight @gain : tensor<32xf32> layout<gguf> from [data @f at 4096 size 128]
quern.weight @wq : tensor<32x32xf32, #quern.q4_0> layout<gguf> from [data @f at 8192 size 576]
quern.weight @wk : tensor<16x32xf32, #quern.q4_0> layout<gguf> from [data @f at 12288 size 288]
quern.weight @wv : tensor<16x32xf32, #quern.q4_0> layout<gguf> from [data @f at 16384 size 288]
quern.weight @wo : tensor<32x32xf32, #quern.q4_0> layout<gguf> from [data @f at 20480 size 576]

// One function for each distinct kernel: wk and wv share one.
// CHECK-LABEL: quern_kernel.schedule @step_one max_tokens 1
// One token: each thread norms and quantizes for itself.
// CHECK: launch @embedding_96x32
// CHECK: launch @rms_norm_32({{.*}}) over rows {{.*}} replicated
// CHECK: launch @quantize_q8_32({{.*}}) over rows {{.*}} replicated
// CHECK: launch @[[WQ:linear_q8_32x32]](
// CHECK: launch @[[WK:linear_q8_16x32]](
// CHECK: launch @[[WK]](
// CHECK: launch @rope_4x8({{.*}}) over heads
// CHECK: launch @rope_2x8({{.*}}) over heads
// CHECK: launch @store_kv_2x8({{.*}}) over heads
// CHECK: launch @attention_4x2x8({{.*}}) over heads
// The product adds itself to the residual: there is no add.
// CHECK-NOT: launch @add
// CHECK: launch @linear_bf16_96x32(
// CHECK: }
// CHECK-LABEL: quern_kernel.schedule @step max_tokens 32
// CHECK: launch @rms_norm_32{{.*}}({{.*}}) over rows %{{.*}} tokens %{{[^ ]*}} : memref<32x32xf32>
// CHECK: launch @attention_4x2x8{{.*}}({{.*}}) over blocks
// CHECK-NOT: quern.weight

// One token: the only barriers between norm and output product are around attention and the
// residual sum.
// BARRIERS-LABEL: quern_kernel.schedule @step_one
// BARRIERS: launch @embedding_96x32
// BARRIERS: barrier
// BARRIERS: launch @rms_norm_32
// BARRIERS-NOT: barrier
// BARRIERS: launch @linear_q8_32x32
// BARRIERS-NOT: barrier
// BARRIERS: launch @linear_q8_16x32
// BARRIERS: barrier
// BARRIERS: launch @rope_4x8
// BARRIERS-NOT: barrier
// BARRIERS: launch @attention_4x2x8
// BARRIERS: barrier
// BARRIERS: launch @quantize_q8_32
// BARRIERS-NOT: barrier
// BARRIERS: launch @linear_q8_32x32
// BARRIERS: barrier
// BARRIERS: launch @take_rows
// BARRIERS-NOT: barrier
// BARRIERS: launch @linear_bf16_96x32
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>,
                   %outputs: tensor<?xi32>, %cache: !quern.kv_cache<1x2x8xf32, context = 64>)
    -> (tensor<?x96xf32>, !quern.kv_cache<1x2x8xf32, context = 64>) {
  %embd = quern.use @embd : tensor<96x32xf32, #quern.q8_0>
  %gain = quern.use @gain : tensor<32xf32>
  %wq = quern.use @wq : tensor<32x32xf32, #quern.q4_0>
  %wk = quern.use @wk : tensor<16x32xf32, #quern.q4_0>
  %wv = quern.use @wv : tensor<16x32xf32, #quern.q4_0>
  %wo = quern.use @wo : tensor<32x32xf32, #quern.q4_0>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<96x32xf32, #quern.q8_0>
  %h = quern.rms_norm %x, %gain eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %q = quern.linear %h, %wq activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %k = quern.linear %h, %wk activations<fast> : tensor<?x32xf32>, tensor<16x32xf32, #quern.q4_0>
  %v = quern.linear %h, %wv activations<fast> : tensor<?x32xf32>, tensor<16x32xf32, #quern.q4_0>
  %qr = quern.rope %q, %positions, #rope head_dim = 8 : tensor<?x32xf32>, tensor<?xi32>
  %kr = quern.rope %k, %positions, #rope head_dim = 8 : tensor<?x16xf32>, tensor<?xi32>
  %a, %c = quern.attention %qr, %kr, %v, %cache, %positions, %sequences layer = 0 scale = 0.35
      : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<1x2x8xf32, context = 64>, tensor<?xi32>
  %o = quern.linear %a, %wo activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %y = quern.add %x, %o : tensor<?x32xf32>
  %t = quern.take_rows %y, %outputs : tensor<?x32xf32>, tensor<?xi32>
  %n = quern.rms_norm %t, %gain eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %logits = quern.linear %n, %embd activations<fast> : tensor<?x32xf32>, tensor<96x32xf32, #quern.q8_0>
  return %logits, %c : tensor<?x96xf32>, !quern.kv_cache<1x2x8xf32, context = 64>
}
