// RUN: quern-opt %s --quern-analyze-scales --split-input-file --verify-diagnostics | FileCheck %s

// A norm takes the inverse scales of what all its readers want; nothing in the IR changes.
quern.weight @g : tensor<32xf32>
quern.weight @q : tensor<64x32xf32, #quern.q4_0>
quern.weight @k : tensor<32x32xf32>
// CHECK-LABEL: func.func @norm(
// CHECK: quern.rms_norm
// CHECK-NEXT: quern.use
func.func @norm(%x: tensor<?x32xf32>) -> (tensor<?x64xf32>, tensor<?x32xf32>) {
  %g = quern.use @g : tensor<32xf32>
  %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %q = quern.use @q : tensor<64x32xf32, #quern.q4_0>
  // expected-remark @below {{the channels that enter 'quern.linear' can be scaled: 'quern.rms_norm' absorbs 32 scales}}
  %0 = quern.linear %n, %q activations<q8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q4_0>
  %k = quern.use @k : tensor<32x32xf32>
  quern.observe %n as 0 for ["q", "k"] : tensor<?x32xf32>
  %1 = quern.linear %n, %k activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>
  return %0, %1 : tensor<?x64xf32>, tensor<?x32xf32>
}

// -----

// Somebody else reads the norm's result.
quern.weight @g : tensor<32xf32>
quern.weight @k : tensor<32x32xf32>
func.func @foreign_use(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %g = quern.use @g : tensor<32xf32>
  %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %k = quern.use @k : tensor<32x32xf32>
  // expected-remark @below {{'quern.linear' are not scaled: 'quern.add' reads the channels, too}}
  %0 = quern.linear %n, %k activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>
  %1 = quern.add %0, %n : tensor<?x32xf32>
  return %1 : tensor<?x32xf32>
}

// -----

// A gain that two norms share.
quern.weight @g : tensor<32xf32>
quern.weight @k : tensor<32x32xf32>
func.func @shared_gain(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %g = quern.use @g : tensor<32xf32>
  %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %k = quern.use @k : tensor<32x32xf32>
  // expected-remark @below {{not scaled: 'quern.rms_norm' reads @g, too}}
  %0 = quern.linear %n, %k activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>
  %1 = quern.rms_norm %0, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  return %1 : tensor<?x32xf32>
}

// -----

// A tied table: its columns are the embedding's, too.
quern.weight @g : tensor<32xf32>
quern.weight @table : tensor<96x32xf32>
func.func @tied(%tokens: tensor<?xi32>) -> tensor<?x96xf32> {
  %t = quern.use @table : tensor<96x32xf32>
  %x = quern.embedding %tokens, %t : tensor<?xi32>, tensor<96x32xf32>
  %g = quern.use @g : tensor<32xf32>
  %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  // expected-remark @below {{not scaled: 'quern.embedding' reads @table, too}}
  %0 = quern.linear %n, %t activations<f32> : tensor<?x32xf32>, tensor<96x32xf32>
  return %0 : tensor<?x96xf32>
}

// -----

// The ungated product's rows take the scales, parts of a fused matrix by themselves; but the
// columns of a fused matrix belong to all its parts.
quern.weight @g : tensor<32xf32>
quern.weight @fused : tensor<128x32xf32>
quern.weight @gate : tensor<64x32xf32> view of @fused rows 0
quern.weight @up : tensor<64x32xf32> view of @fused rows 64
quern.weight @down : tensor<32x64xf32>
func.func @parts(%x: tensor<?x32xf32>, %y: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %g = quern.use @g : tensor<32xf32>
  %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  %gate = quern.use @gate : tensor<64x32xf32>
  // expected-remark @below {{not scaled: 'quern.linear' reads @fused, too}}
  %0 = quern.linear %n, %gate activations<f32> : tensor<?x32xf32>, tensor<64x32xf32>
  %up = quern.use @up : tensor<64x32xf32>
  // expected-remark @below {{not scaled: 'quern.linear' reads @fused, too}}
  %1 = quern.linear %y, %up activations<f32> : tensor<?x32xf32>, tensor<64x32xf32>
  %2 = quern.gated_activation<silu> %0, %1 : tensor<?x64xf32>
  %down = quern.use @down : tensor<32x64xf32>
  // expected-remark @below {{can be scaled: 'quern.linear' absorbs 64 scales}}
  %3 = quern.linear %2, %down activations<f32> : tensor<?x64xf32>, tensor<32x64xf32>
  return %3 : tensor<?x32xf32>
}

// -----

// The gated operand is not linear, and here the other one is read elsewhere.
quern.weight @up : tensor<64x32xf32>
quern.weight @down : tensor<32x64xf32>
func.func @ungated(%x: tensor<?x32xf32>, %h: tensor<?x64xf32>) -> (tensor<?x32xf32>, tensor<?x64xf32>) {
  %up = quern.use @up : tensor<64x32xf32>
  // expected-remark @below {{not scaled: an argument of the function cannot absorb a scale}}
  %0 = quern.linear %x, %up activations<f32> : tensor<?x32xf32>, tensor<64x32xf32>
  %1 = quern.gated_activation<silu> %h, %0 : tensor<?x64xf32>
  %2 = quern.scale %0 by 2.0 : tensor<?x64xf32>
  %down = quern.use @down : tensor<32x64xf32>
  // expected-remark @below {{not scaled: 'quern.scale' reads the ungated channels, too}}
  %3 = quern.linear %1, %down activations<f32> : tensor<?x64xf32>, tensor<32x64xf32>
  return %3, %2 : tensor<?x32xf32>, tensor<?x64xf32>
}

// -----

// Values: 4 query heads share the scales of 2 heads of values; a bias is the product's own.
quern.weight @v : tensor<32x32xf32>
quern.weight @b : tensor<32xf32>
quern.weight @o : tensor<32x64xf32>
func.func @attention(%x: tensor<?x32xf32>, %q: tensor<?x64xf32>, %k: tensor<?x32xf32>,
                     %cache: !quern.kv_cache<1x2x16xf16, context = 64>, %p: tensor<?xi32>,
                     %s: tensor<?xi32>) -> tensor<?x32xf32> {
  %wv = quern.use @v : tensor<32x32xf32>
  %b = quern.use @b : tensor<32xf32>
  // expected-remark @below {{not scaled: an argument of the function}}
  %v = quern.linear %x, %wv bias %b activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>, tensor<32xf32>
  %a, %c = quern.attention %q, %k, %v, %cache, %p, %s layer = 0 scale = 0.25
      : tensor<?x64xf32>, tensor<?x32xf32>, !quern.kv_cache<1x2x16xf16, context = 64>, tensor<?xi32>
  %wo = quern.use @o : tensor<32x64xf32>
  // expected-remark @below {{can be scaled: 'quern.linear' absorbs 32 scales}}
  %0 = quern.linear %a, %wo activations<f32> : tensor<?x64xf32>, tensor<32x64xf32>
  return %0 : tensor<?x32xf32>
}

// -----

// Values that are normalised head by head have no rows to scale.
quern.weight @g : tensor<16xf32>
quern.weight @v : tensor<32x32xf32>
quern.weight @o : tensor<32x64xf32>
func.func @value_norm(%x: tensor<?x32xf32>, %q: tensor<?x64xf32>, %k: tensor<?x32xf32>,
                     %cache: !quern.kv_cache<1x2x16xf16, context = 64>, %p: tensor<?xi32>,
                     %s: tensor<?xi32>) -> tensor<?x32xf32> {
  %wv = quern.use @v : tensor<32x32xf32>
  // expected-remark @below {{not scaled: an argument of the function}}
  %v = quern.linear %x, %wv activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>
  %g = quern.use @g : tensor<16xf32>
  %n = quern.rms_norm %v, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<16xf32>
  %a, %c = quern.attention %q, %k, %n, %cache, %p, %s layer = 0 scale = 0.25
      : tensor<?x64xf32>, tensor<?x32xf32>, !quern.kv_cache<1x2x16xf16, context = 64>, tensor<?xi32>
  %wo = quern.use @o : tensor<32x64xf32>
  // expected-remark @below {{not scaled: 'quern.rms_norm' makes the value channels and has no rows to scale}}
  %0 = quern.linear %a, %wo activations<f32> : tensor<?x64xf32>, tensor<32x64xf32>
  return %0 : tensor<?x32xf32>
}
