// RUN: quern-opt %s --quern-to-kernels=target=x86-64-v3 | FileCheck %s
// RUN: quern-opt %s --quern-to-kernels=target=sapphirerapids | FileCheck %s
// RUN: quern-opt %s --quern-to-kernels=target=aarch64 | FileCheck %s
// RUN: not quern-opt %s --quern-to-kernels=target=vax 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// `fast` is q8 where codes are integers (or stand for some: mxfp4) of fewer than 8 bits, bf16 elsewhere; what is asked
// for by name stays. On every target alike.
// CHECK-LABEL: quern_kernel.schedule @step_one
// CHECK: launch @linear_q8_32x32(
// CHECK: launch @linear_bf16_32x32(
// CHECK: launch @linear_int8_32x32(
// CHECK: launch @linear_bf16_96x32(
// UNKNOWN: unknown target 'vax'
quern.file @f path "f.gguf" size 1000000
quern.weight @embd : tensor<96x32xf32, #quern.q8_0> layout<gguf> from [data @f at 0 size 3264]
quern.weight @a : tensor<32x32xf32, #quern.gguf_mxfp4> layout<gguf> from [data @f at 8192 size 544]
quern.weight @b : tensor<32x32xf32, #quern.bf16> layout<gguf> from [data @f at 12288 size 2048]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>,
                   %outputs: tensor<?xi32>, %cache: !quern.kv_cache<1x2x8xf32, context = 64>)
    -> (tensor<?x96xf32>, !quern.kv_cache<1x2x8xf32, context = 64>) {
  %embd = quern.use @embd : tensor<96x32xf32, #quern.q8_0>
  %a = quern.use @a : tensor<32x32xf32, #quern.gguf_mxfp4>
  %b = quern.use @b : tensor<32x32xf32, #quern.bf16>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<96x32xf32, #quern.q8_0>
  %1 = quern.linear %x, %a activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.gguf_mxfp4>
  %2 = quern.linear %1, %b activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.bf16>
  %3 = quern.linear %2, %b activations<int8> : tensor<?x32xf32>, tensor<32x32xf32, #quern.bf16>
  %logits = quern.linear %3, %embd activations<fast> : tensor<?x32xf32>, tensor<96x32xf32, #quern.q8_0>
  return %logits, %cache : tensor<?x96xf32>, !quern.kv_cache<1x2x8xf32, context = 64>
}
