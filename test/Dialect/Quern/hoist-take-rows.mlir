// RUN: quern-opt %s --quern-hoist-take-rows | FileCheck %s

// The end of a decoder: everything after the last attention is computed for the outputs' rows only.
// CHECK-LABEL: func.func @last_layer(
// CHECK-SAME: %[[X:.+]]: tensor<?x32xf32>, %[[H:.+]]: tensor<?x32xf32>, %[[ROWS:.+]]: tensor<?xi32>,
func.func @last_layer(%x: tensor<?x32xf32>, %h: tensor<?x32xf32>, %rows: tensor<?xi32>, %g: tensor<32xf32>,
                      %up: tensor<64x32xf32>, %down: tensor<32x64xf32>) -> tensor<?x32xf32> {
  // CHECK-DAG: %[[TX:.+]] = quern.take_rows %[[X]], %[[ROWS]] : tensor<?x32xf32>, tensor<?xi32>
  // CHECK-DAG: %[[TH:.+]] = quern.take_rows %[[H]], %[[ROWS]] : tensor<?x32xf32>, tensor<?xi32>
  // CHECK: %[[SUM:.+]] = quern.add %[[TX]], %[[TH]]
  // CHECK: %[[N:.+]] = quern.rms_norm %[[SUM]]
  // CHECK: %[[GATE:.+]] = quern.linear %[[N]]
  // CHECK: %[[UP:.+]] = quern.linear %[[N]]
  // CHECK: %[[ACT:.+]] = quern.gated_activation<silu> %[[GATE]], %[[UP]]
  // CHECK: %[[DOWN:.+]] = quern.linear %[[ACT]]
  // CHECK: %[[OUT:.+]] = quern.add %[[SUM]], %[[DOWN]]
  // CHECK-NOT: take_rows
  // CHECK: return %[[OUT]]
  %0 = quern.add %x, %h : tensor<?x32xf32>
  %1 = quern.rms_norm %0, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %2 = quern.linear %1, %up activations<f32> : tensor<?x32xf32>, tensor<64x32xf32>
  %3 = quern.linear %1, %up activations<q8> : tensor<?x32xf32>, tensor<64x32xf32>
  %4 = quern.gated_activation<silu> %2, %3 : tensor<?x64xf32>
  %5 = quern.linear %4, %down activations<f32> : tensor<?x64xf32>, tensor<32x64xf32>
  %6 = quern.add %0, %5 : tensor<?x32xf32>
  %7 = quern.take_rows %6, %rows : tensor<?x32xf32>, tensor<?xi32>
  return %7 : tensor<?x32xf32>
}

// Static row counts change with the rows.
// CHECK-LABEL: func.func @static(
func.func @static(%x: tensor<8x32xf32>, %rows: tensor<2xi32>) -> tensor<2x32xf32> {
  // CHECK: %[[T:.+]] = quern.take_rows %{{.+}} : tensor<8x32xf32>, tensor<2xi32>
  // CHECK: quern.scale %[[T]] by 2.000000e+00 : tensor<2x32xf32>
  %0 = quern.scale %x by 2.0 : tensor<8x32xf32>
  %1 = quern.take_rows %0, %rows : tensor<8x32xf32>, tensor<2xi32>
  return %1 : tensor<2x32xf32>
}

// Somebody needs the other rows too.
// CHECK-LABEL: func.func @all_rows_used(
func.func @all_rows_used(%x: tensor<?x32xf32>, %rows: tensor<?xi32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  // CHECK: %[[S:.+]] = quern.scale
  // CHECK: quern.take_rows %[[S]]
  %0 = quern.scale %x by 2.0 : tensor<?x32xf32>
  %1 = quern.take_rows %0, %rows : tensor<?x32xf32>, tensor<?xi32>
  return %0, %1 : tensor<?x32xf32>, tensor<?x32xf32>
}

// Two different choices of rows: taking either first would compute the op twice.
// CHECK-LABEL: func.func @two_choices(
func.func @two_choices(%x: tensor<?x32xf32>, %a: tensor<?xi32>, %b: tensor<?xi32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  // CHECK: %[[S:.+]] = quern.scale
  // CHECK: quern.take_rows %[[S]]
  // CHECK: quern.take_rows %[[S]]
  %0 = quern.scale %x by 2.0 : tensor<?x32xf32>
  %1 = quern.take_rows %0, %a : tensor<?x32xf32>, tensor<?xi32>
  %2 = quern.take_rows %0, %b : tensor<?x32xf32>, tensor<?xi32>
  return %1, %2 : tensor<?x32xf32>, tensor<?x32xf32>
}

// Attention reads other rows: it stays.
// CHECK-LABEL: func.func @attention(
func.func @attention(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<1x2x8xf16, context = 64>, %p: tensor<?xi32>,
                     %rows: tensor<?xi32>) -> (tensor<?x32xf32>, !quern.kv_cache<1x2x8xf16, context = 64>) {
  // CHECK: %[[A:.+]], %{{.+}} = quern.attention
  // CHECK: quern.take_rows %[[A]]
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0
    : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<1x2x8xf16, context = 64>, tensor<?xi32>
  %2 = quern.take_rows %0, %rows : tensor<?x32xf32>, tensor<?xi32>
  return %2, %1 : tensor<?x32xf32>, !quern.kv_cache<1x2x8xf16, context = 64>
}
