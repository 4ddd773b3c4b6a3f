// RUN: quern-opt %s --split-input-file --verify-diagnostics

func.func @embedding(%t: tensor<?xi64>, %w: tensor<8x32xf32, #quern.q4_0>) {
  // expected-error @below {{operand #0 must be i32 numbers, one per token}}
  %0 = quern.embedding %t, %w : tensor<?xi64>, tensor<8x32xf32, #quern.q4_0>
  return
}

// -----

func.func @embedding_result(%t: tensor<?xi32>, %w: tensor<8x32xf32, #quern.q4_0>) {
  // expected-error @below {{failed to infer returned types}}
  // expected-error @below {{inferred type(s) 'tensor<?x32xf32>' are incompatible}}
  %0 = "quern.embedding"(%t, %w) : (tensor<?xi32>, tensor<8x32xf32, #quern.q4_0>) -> tensor<?x16xf32>
  return
}

// -----

func.func @linear(%x: tensor<?x64xf32>, %w: tensor<8x32xf32, #quern.q4_0>) {
  // expected-error @below {{width of the input is 64, but K of the weight is 32}}
  %0 = quern.linear %x, %w activations<fast> : tensor<?x64xf32>, tensor<8x32xf32, #quern.q4_0>
  return
}

// -----

func.func @linear_bias(%x: tensor<?x32xf32>, %w: tensor<8x32xf32, #quern.q4_0>, %b: tensor<32xf32>) {
  // expected-error @below {{length of the bias is 32, but N of the weight is 8}}
  %0 = quern.linear %x, %w bias %b activations<fast> : tensor<?x32xf32>, tensor<8x32xf32, #quern.q4_0>, tensor<32xf32>
  return
}

// -----

func.func @linear_result(%x: tensor<5x32xf32>, %w: tensor<8x32xf32, #quern.q4_0>) {
  // expected-error @below {{failed to infer returned types}}
  // expected-error @below {{inferred type(s) 'tensor<5x8xf32>' are incompatible}}
  %0 = "quern.linear"(%x, %w) {activations = #quern.activation<fast>} : (tensor<5x32xf32>, tensor<8x32xf32, #quern.q4_0>) -> tensor<4x8xf32>
  return
}

// -----

func.func @linear_static(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{has a static scale, which int8 activations alone take; found f32}}
  %0 = quern.linear %x, %w activations<f32> {static_scale = 1.0 : f32} : tensor<?x32xf32>, tensor<8x32xf32>
  return
}

// -----

func.func @linear_scale(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{expects a static scale that is normal and positive}}
  %0 = quern.linear %x, %w activations<int8> {static_scale = -1.0 : f32} : tensor<?x32xf32>, tensor<8x32xf32>
  return
}

// -----

func.func @linear_zero(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error@+1 {{expects a static zero in [-126, 126], of a static scale; found -127}}
  %0 = quern.linear %x, %w activations<int8> {static_scale = 1.0 : f32, static_zero = -127 : i32} : tensor<?x32xf32>, tensor<8x32xf32>
  return
}

// -----

func.func @linear_coded(%x: tensor<4x32xf32, #quern.q8_0>, %w: tensor<8x32xf32, #quern.q4_0>) {
  // expected-error @below {{operand #0 must be f32 activations [tokens, features]}}
  %0 = quern.linear %x, %w activations<fast> : tensor<4x32xf32, #quern.q8_0>, tensor<8x32xf32, #quern.q4_0>
  return
}

// -----

func.func @linear_stack(%x: tensor<?x32xf32>, %w: tensor<2x8x32xf32, #quern.q4_0>) {
  // expected-error @below {{operand #1 must be a stored matrix [N, K]}}
  %0 = quern.linear %x, %w activations<fast> : tensor<?x32xf32>, tensor<2x8x32xf32, #quern.q4_0>
  return
}

// -----

func.func @linear_number(%x: i32, %w: tensor<8x32xf32>) {
  // expected-error @below {{operand #0 must be f32 activations [tokens, features], but got 'i32'}}
  %0 = "quern.linear"(%x, %w) {activations = #quern.activation<f32>} : (i32, tensor<8x32xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_vector(%x: tensor<?x32xf32>, %w: tensor<32xf32>) {
  // expected-error @below {{expected a tensor of at least 2 dimensions, found 'tensor<32xf32>'}}
  %0 = quern.linear %x, %w activations<f32> : tensor<?x32xf32>, tensor<32xf32>
  return
}

// -----

func.func @linear_attribute(%x: tensor<?x32xf32>, %w: tensor<8x32xf32>) {
  // expected-error @below {{requires attribute 'activations'}}
  %0 = "quern.linear"(%x, %w) : (tensor<?x32xf32>, tensor<8x32xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @expert_width(%x: tensor<?x16xf32>, %w: tensor<4x8x32xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{width of the input is 16, but K of the weight is 32}}
  %0 = quern.expert_linear %x, %w, %ids activations<f32> : tensor<?x16xf32>, tensor<4x8x32xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @expert_slices(%x: tensor<?x3x32xf32>, %w: tensor<4x8x32xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{number of slices of the input is 3, but number of chosen experts is 2}}
  %0 = quern.expert_linear %x, %w, %ids activations<f32> : tensor<?x3x32xf32>, tensor<4x8x32xf32>, tensor<?x2xi32>
  return
}

// -----

func.func @expert_many(%x: tensor<?x32xf32>, %w: tensor<4x8x32xf32>, %ids: tensor<?x5xi32>) {
  // expected-error @below {{chooses 5 of 4 experts}}
  %0 = quern.expert_linear %x, %w, %ids activations<f32> : tensor<?x32xf32>, tensor<4x8x32xf32>, tensor<?x5xi32>
  return
}

// -----

func.func @expert_tokens(%x: tensor<6x32xf32>, %w: tensor<4x8x32xf32>, %ids: tensor<5x2xi32>) {
  // expected-error @below {{number of tokens of the ids is 5, but that of the input is 6}}
  %0 = quern.expert_linear %x, %w, %ids activations<f32> : tensor<6x32xf32>, tensor<4x8x32xf32>, tensor<5x2xi32>
  return
}

// -----

func.func @norm_length(%x: tensor<?x32xf32>, %g: tensor<24xf32>) {
  // expected-error @below {{width of the input is 32, which is no multiple of the gain's length 24}}
  %0 = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<24xf32>
  return
}

// -----

func.func @norm_empty(%x: tensor<?x32xf32>, %g: tensor<0xf32>) {
  // expected-error @below {{operand #1 must be a stored vector [K]}}
  %0 = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<0xf32>
  return
}

// -----

func.func @norm_eps(%x: tensor<?x32xf32>, %g: tensor<32xf32>) {
  // expected-error @below {{eps must be positive and finite}}
  %0 = quern.rms_norm %x, %g eps = -1.0 : tensor<?x32xf32>, tensor<32xf32>
  return
}

// -----

func.func @layer_norm(%x: tensor<?x32xf32>, %g: tensor<16xf32>) {
  // expected-error @below {{length of the gain is 16, but width of the input is 32}}
  %0 = quern.layer_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<16xf32>
  return
}

// -----

func.func @layer_norm_bias(%x: tensor<?x32xf32>, %g: tensor<32xf32>, %b: tensor<16xf32>) {
  // expected-error @below {{length of the bias is 16, but width of the input is 32}}
  %0 = quern.layer_norm %x, %g bias %b eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>, tensor<16xf32>
  return
}

// -----

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1]>
func.func @rope_heads(%x: tensor<?x32xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{width of the input is 32, which is no multiple of head_dim 24}}
  %0 = quern.rope %x, %p, #rope head_dim = 24 : tensor<?x32xf32>, tensor<?xi32>
  return
}

// -----

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1, 0.01]>
func.func @rope_pairs(%x: tensor<?x32xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{has 3 frequencies, too many for heads of 4}}
  %0 = quern.rope %x, %p, #rope head_dim = 4 : tensor<?x32xf32>, tensor<?xi32>
  return
}

// -----

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0]>
func.func @rope_zero(%x: tensor<?x32xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{head_dim must be positive, found 0}}
  %0 = quern.rope %x, %p, #rope head_dim = 0 : tensor<?x32xf32>, tensor<?xi32>
  return
}

// -----

#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0]>
func.func @rope_positions(%x: tensor<4x32xf32>, %p: tensor<3xi32>) {
  // expected-error @below {{number of positions is 3, but number of tokens is 4}}
  %0 = quern.rope %x, %p, #rope head_dim = 8 : tensor<4x32xf32>, tensor<3xi32>
  return
}

// -----

func.func @attention_layer(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{layer is 2, but the cache has 2}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 2 scale = 1.0 : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_keys(%q: tensor<?x32xf32>, %k: tensor<?x24xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{width of the keys is 24, but that of the cache is 16}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0 : tensor<?x32xf32>, tensor<?x24xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_queries(%q: tensor<?x24xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{width of the queries is 24, which is no multiple of the keys' width 16}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0 : tensor<?x24xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_window(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{window must be positive, found 0}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0 window = 0 : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_softcap(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{softcap must be positive and finite}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0 softcap = 0.0 : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_scale(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<?xi32>) {
  // expected-error @below {{scale must be finite}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 0x7FC00000 : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<?xi32>
  return
}

// -----

func.func @attention_tokens(%q: tensor<4x32xf32>, %k: tensor<3x16xf32>, %c: !quern.kv_cache<2x2x8xf16, context = 64>, %p: tensor<4xi32>) {
  // expected-error @below {{number of keys is 3, but number of queries is 4}}
  %0, %1 = quern.attention %q, %k, %k, %c, %p, %p layer = 0 scale = 1.0 : tensor<4x32xf32>, tensor<3x16xf32>, !quern.kv_cache<2x2x8xf16, context = 64>, tensor<4xi32>
  return
}

// -----

func.func @gated(%x: tensor<?x32xf32>, %y: tensor<?x16xf32>) {
  // expected-error @below {{all of {gate, up, result} have same type}}
  %0 = "quern.gated_activation"(%x, %y) {function = #quern.gate<silu>} : (tensor<?x32xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
  return
}

// -----

func.func @scale(%x: tensor<?x32xf32>) {
  // expected-error @below {{factor must be finite}}
  %0 = quern.scale %x by 0x7F800000 : tensor<?x32xf32>
  return
}

// -----

func.func @softcap(%x: tensor<?x32xf32>) {
  // expected-error @below {{cap must be positive and finite, found -1}}
  %0 = quern.softcap %x to -1.0 : tensor<?x32xf32>
  return
}

// -----

func.func @route(%x: tensor<?x4xf32>) {
  // expected-error @below {{chooses 5 of 4 experts}}
  %0, %1 = quern.route %x top_k = 5 : tensor<?x4xf32>
  return
}

// -----

func.func @route_none(%x: tensor<?x4xf32>) {
  // expected-error @below {{chooses 0 of 4 experts}}
  %0, %1 = quern.route %x top_k = 0 : tensor<?x4xf32>
  return
}

// -----

func.func @combine(%x: tensor<?x2x32xf32>, %w: tensor<?x3xf32>) {
  // expected-error @below {{number of weights is 3, but number of slices is 2}}
  %0 = quern.combine_experts %x, %w : tensor<?x2x32xf32>, tensor<?x3xf32>
  return
}

// -----

func.func @combine_tokens(%x: tensor<4x2x32xf32>, %w: tensor<3x2xf32>) {
  // expected-error @below {{number of tokens of the weights is 3, but that of the input is 4}}
  %0 = quern.combine_experts %x, %w : tensor<4x2x32xf32>, tensor<3x2xf32>
  return
}

// -----

func.func @quantize_shape(%x: tensor<4x32xf32>) {
  // expected-error @below {{cannot turn 'tensor<4x32xf32>' into 'tensor<4x64xf32, #quern.q4_0>'}}
  %0 = quern.quantize %x : tensor<4x32xf32> to tensor<4x64xf32, #quern.q4_0>
  return
}

// -----

func.func @quantize_plain(%x: tensor<4x32xf32>) {
  // expected-error @below {{result must have a format}}
  %0 = quern.quantize %x : tensor<4x32xf32> to tensor<4x32xf32>
  return
}

// -----

func.func @quantize_twice(%x: tensor<4x32xf32, #quern.q4_0>) {
  // expected-error @below {{input must have no format}}
  %0 = quern.quantize %x : tensor<4x32xf32, #quern.q4_0> to tensor<4x32xf32, #quern.q4_1>
  return
}

// -----

func.func @dequantize(%x: tensor<4x32xf32>) {
  // expected-error @below {{input must have a format}}
  %0 = quern.dequantize %x : tensor<4x32xf32> to tensor<4x32xf32>
  return
}

// -----

func.func @hadamard_block(%x: tensor<?x576xf32>) {
  // expected-error @below {{block must be a power of two, or one times 12, 28, 36 or 60, found 9}}
  %0 = quern.hadamard %x block = 9 : tensor<?x576xf32>
  return
}

// -----

func.func @hadamard_width(%x: tensor<?x576xf32>) {
  // expected-error @below {{blocks of 128 do not divide rows of 576}}
  %0 = quern.hadamard %x block = 128 : tensor<?x576xf32>
  return
}
