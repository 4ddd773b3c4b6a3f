// RUN: quern-opt %s --quern-set-activation-formats | FileCheck %s --check-prefix=DEFAULT
// RUN: quern-opt %s --quern-set-activation-formats="coded=q8 plain=bf16" | FileCheck %s --check-prefix=PINNED
// RUN: not quern-opt %s --quern-set-activation-formats=coded=f7 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: f7

// DEFAULT-LABEL: @coded
// PINNED-LABEL: @coded
func.func @coded(%x: tensor<?x32xf32>, %w: tensor<8x32xf32, #quern.q4_0>) -> tensor<?x8xf32> {
  // DEFAULT: quern.linear {{.*}} activations<fast>
  // PINNED: quern.linear {{.*}} activations<q8>
  %0 = quern.linear %x, %w activations<int8> : tensor<?x32xf32>, tensor<8x32xf32, #quern.q4_0>
  return %0 : tensor<?x8xf32>
}

// Bare floats, with and without a format that says so.
// DEFAULT-LABEL: @plain
// PINNED-LABEL: @plain
func.func @plain(%x: tensor<?x32xf32>, %w: tensor<32x32xf32, #quern.bf16>, %v: tensor<8x32xf32>) -> tensor<?x8xf32> {
  // DEFAULT-COUNT-2: quern.linear {{.*}} activations<f32>
  // PINNED-COUNT-2: quern.linear {{.*}} activations<bf16>
  %0 = quern.linear %x, %w activations<fast> : tensor<?x32xf32>, tensor<32x32xf32, #quern.bf16>
  %1 = quern.linear %0, %v activations<fast> : tensor<?x32xf32>, tensor<8x32xf32>
  return %1 : tensor<?x8xf32>
}

// DEFAULT-LABEL: @experts
// PINNED-LABEL: @experts
func.func @experts(%x: tensor<?x32xf32>, %w: tensor<4x8x32xf32, #quern.q8_0>, %ids: tensor<?x2xi32>) -> tensor<?x2x8xf32> {
  // DEFAULT: quern.expert_linear {{.*}} activations<fast>
  // PINNED: quern.expert_linear {{.*}} activations<q8>
  %0 = quern.expert_linear %x, %w, %ids activations<f32> : tensor<?x32xf32>, tensor<4x8x32xf32, #quern.q8_0>, tensor<?x2xi32>
  return %0 : tensor<?x2x8xf32>
}
