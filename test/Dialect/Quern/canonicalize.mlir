// RUN: quern-opt %s --canonicalize --cse | FileCheck %s

// CHECK-LABEL: func.func @scale_by_one(
// CHECK-SAME: %[[X:.+]]: tensor<?x32xf32>
// CHECK-NEXT: return %[[X]]
func.func @scale_by_one(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %0 = quern.scale %x by 1.0 : tensor<?x32xf32>
  return %0 : tensor<?x32xf32>
}

// Two roundings are not one: this stays.
// CHECK-LABEL: func.func @scale_twice(
// CHECK-COUNT-2: quern.scale
func.func @scale_twice(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %0 = quern.scale %x by 3.0 : tensor<?x32xf32>
  %1 = quern.scale %0 by 0.1 : tensor<?x32xf32>
  return %1 : tensor<?x32xf32>
}

// Ops are pure: what nobody uses goes, what is computed twice is computed once.
quern.weight @w : tensor<32x32xf32, #quern.q4_0>
// CHECK-LABEL: func.func @pure(
// CHECK: %[[W:.+]] = quern.use @w
// CHECK-NEXT: %[[Y:.+]] = quern.linear %{{.+}}, %[[W]]
// CHECK-NEXT: quern.add %[[Y]], %[[Y]]
// CHECK-NEXT: return
func.func @pure(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w0 = quern.use @w : tensor<32x32xf32, #quern.q4_0>
  %w1 = quern.use @w : tensor<32x32xf32, #quern.q4_0>
  %0 = quern.linear %x, %w0 activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %1 = quern.linear %x, %w1 activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %2 = quern.linear %x, %w1 activations<f32> : tensor<?x32xf32>, tensor<32x32xf32, #quern.q4_0>
  %3 = quern.add %0, %1 : tensor<?x32xf32>
  return %3 : tensor<?x32xf32>
}
