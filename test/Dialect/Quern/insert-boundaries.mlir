// RUN: quern-opt %s --quern-insert-boundaries --verify-roundtrip | FileCheck %s -enable-var-scope
// RUN: quern-opt %s --quern-insert-boundaries --quern-to-kernels=max-tokens=32 --quern-insert-barriers \
// RUN:   | FileCheck %s --check-prefix=KERNELS

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1, 0.01, 0.001]>
quern.file @f path "f.gguf" size 1000000
quern.weight @embd : tensor<96x32xf32, #quern.q8_0> layout<gguf> from [data @f at 0 size 3264]
quern.weight @gain : tensor<32xf32> layout<gguf> from [data @f at 4096 size 128]
quern.weight @wq : tensor<32x32xf32, #quern.q4_0> layout<gguf> from [data @f at 8192 size 576]
quern.weight @wk : tensor<16x32xf32, #quern.q4_0> layout<gguf> from [data @f at 12288 size 288]
quern.weight @wv : tensor<16x32xf32, #quern.q4_0> layout<gguf> from [data @f at 16384 size 288]
quern.weight @wo : tensor<32x32xf32, #quern.q4_0> layout<gguf> from [data @f at 20480 size 576]

// After the embedding and where attention's product has joined the stream; not in between, where
// more than the stream is needed, nor before the logits, in whose way no product is.
// CHECK-LABEL: func.func @forward(
// CHECK: %[[X:.+]] = quern.embedding
// CHECK-NEXT: quern.boundary %[[X]] as 0 : tensor<?x32xf32>
// CHECK-NOT: quern.boundary
// CHECK: %[[Y:.+]] = quern.add
// CHECK-NEXT: quern.boundary %[[Y]] as 1 : tensor<?x32xf32>
// CHECK-NOT: quern.boundary

// What all layers read is made before the first; nothing overtakes a boundary.
// KERNELS-LABEL: quern_kernel.schedule @step_one
// KERNELS: launch @rope_table
// KERNELS: launch @embedding_96x32
// KERNELS: barrier
// KERNELS-NEXT: quern_kernel.boundary %{{.+}} as 0 rows
// KERNELS: barrier
// KERNELS: quern_kernel.boundary %{{.+}} as 1 rows
// KERNELS: barrier
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
