// RUN: quern-opt %s --quern-insert-observers --verify-roundtrip | FileCheck %s -enable-var-scope

quern.weight @gate : tensor<64x32xf32, #quern.q4_0>
quern.weight @up : tensor<64x32xf32, #quern.q4_0>
quern.weight @down : tensor<32x64xf32, #quern.q4_0>
quern.weight @qkv : tensor<96x32xf32, #quern.q4_0>
quern.weight @q : tensor<32x32xf32, #quern.q4_0> view of @qkv rows 0
quern.weight @k : tensor<64x32xf32, #quern.q4_0> view of @qkv rows 32

// Products that share an input share an observer, in front of the first of them.
// CHECK-LABEL: func.func @mlp(
// CHECK-SAME: %[[X:.+]]: tensor<?x32xf32>
// CHECK: quern.observe %[[X]] as 0 for ["gate", "up"] : tensor<?x32xf32>
// CHECK-NEXT: quern.linear %[[X]]
// CHECK-NOT: quern.observe
// CHECK: %[[H:.+]] = quern.gated_activation
// CHECK: quern.observe %[[H]] as 1 for ["down"] : tensor<?x64xf32>
// CHECK-NEXT: quern.linear %[[H]]
func.func @mlp(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %gate = quern.use @gate : tensor<64x32xf32, #quern.q4_0>
  %up = quern.use @up : tensor<64x32xf32, #quern.q4_0>
  %down = quern.use @down : tensor<32x64xf32, #quern.q4_0>
  %0 = quern.linear %x, %gate activations<q8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q4_0>
  %1 = quern.linear %x, %up activations<q8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q4_0>
  %2 = quern.gated_activation<silu> %0, %1 : tensor<?x64xf32>
  %3 = quern.linear %2, %down activations<q8> : tensor<?x64xf32>, tensor<32x64xf32, #quern.q4_0>
  return %3 : tensor<?x32xf32>
}

// Parts of a fused matrix are named by the whole; nothing here looks unused.
// CHECK-LABEL: func.func @fused(
// CHECK: quern.observe %{{.+}} as 2 for ["qkv"] : tensor<?x32xf32>
func.func @fused(%x: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x64xf32>) {
  %q = quern.use @q : tensor<32x32xf32, #quern.q4_0>
  %k = quern.use @k : tensor<64x32xf32, #quern.q4_0>
  %0 = quern.linear %x, %q activations<q8> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %1 = quern.linear %x, %k activations<q8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q4_0>
  return %0, %1 : tensor<?x32xf32>, tensor<?x64xf32>
}

// What experts read is shown with their ids, apart from what others read of the same value.
quern.weight @router : tensor<4x32xf32>
quern.weight @up_exps : tensor<4x8x32xf32>
quern.weight @down_exps : tensor<4x32x8xf32>
// CHECK-LABEL: func.func @mixture(
// CHECK-SAME: %[[X:.+]]: tensor<?x32xf32>, %[[IDS:.+]]: tensor<?x2xi32>
// CHECK: quern.observe %[[X]] as 3 for ["router"] : tensor<?x32xf32>
// CHECK-NEXT: quern.linear %[[X]]
// CHECK-NEXT: quern.observe %[[IDS]] as 4 for ["up_exps", "down_exps"] : tensor<?x2xi32>
// CHECK-NEXT: quern.observe %[[X]] as 5 for ["up_exps"] : tensor<?x32xf32>
// CHECK-NEXT: %[[H:.+]] = quern.expert_linear %[[X]]
// CHECK-NEXT: quern.observe %[[H]] as 6 for ["down_exps"] : tensor<?x2x8xf32>
// CHECK-NEXT: quern.expert_linear %[[H]]
func.func @mixture(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<?x2x32xf32>) {
  %router = quern.use @router : tensor<4x32xf32>
  %up = quern.use @up_exps : tensor<4x8x32xf32>
  %down = quern.use @down_exps : tensor<4x32x8xf32>
  %0 = quern.linear %x, %router activations<f32> : tensor<?x32xf32>, tensor<4x32xf32>
  %1 = quern.expert_linear %x, %up, %ids activations<f32> : tensor<?x32xf32>, tensor<4x8x32xf32>, tensor<?x2xi32>
  %2 = quern.expert_linear %1, %down, %ids activations<f32> : tensor<?x2x8xf32>, tensor<4x32x8xf32>, tensor<?x2xi32>
  return %0, %2 : tensor<?x4xf32>, tensor<?x2x32xf32>
}
