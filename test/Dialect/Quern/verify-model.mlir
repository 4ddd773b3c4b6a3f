// RUN: quern-opt %s --split-input-file --quern-verify-model --verify-diagnostics
// RUN: quern-translate --import-model %models/tiny | quern-opt --quern-verify-model -o /dev/null

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
#rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1]>

// A model.
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x32xf32> layout<gguf> from [data @f at 0 size 8192]
quern.weight @qkv : tensor<64x32xf32> layout<gguf> from [data @f at 0 size 8192]
quern.weight @q : tensor<32x32xf32> view of @qkv rows 0
quern.weight @k : tensor<16x32xf32> view of @qkv rows 32
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x64xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x32xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x32xf32>
  %wq = quern.use @q : tensor<32x32xf32>
  %q = quern.linear %x, %wq activations<f32> : tensor<?x32xf32>, tensor<32x32xf32>
  %wk = quern.use @k : tensor<16x32xf32>
  %k = quern.linear %x, %wk activations<f32> : tensor<?x32xf32>, tensor<16x32xf32>
  %r = quern.rope %q, %positions, #rope head_dim = 8 : tensor<?x32xf32>, tensor<?xi32>
  %a, %c = quern.attention %r, %k, %k, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x32xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  %t = quern.take_rows %a, %outputs : tensor<?x32xf32>, tensor<?xi32>
  %y = quern.linear %t, %embd activations<f32> : tensor<?x32xf32>, tensor<64x32xf32>
  return %y, %c : tensor<?x64xf32>, !cache
}

// -----

// expected-error @below {{a model has one function, 'forward', with a body; found 0 functions}}
module {}

// -----

// expected-error @below {{found 1 function, 'main'}}
module {
  func.func @main() { return }
}

// -----

// expected-error @below {{'forward' must take tokens, positions, sequences and outputs}}
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?xi32> { return %tokens : tensor<?xi32> }

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x64xf32>, !cache) {
  // expected-error @below {{@embd has no data: its components are unset}}
  %embd = quern.use @embd : tensor<64x64xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x64xf32>
  return %x, %cache : tensor<?x64xf32>, !cache
}
quern.weight @embd : tensor<64x64xf32>

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x16xf32>
  %a, %c = quern.attention %x, %x, %x, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  // expected-error @below {{must take the cache that the attention before it made}}
  %b, %d = quern.attention %a, %x, %x, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  return %b, %d : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x16xf32>
  %a, %c = quern.attention %x, %x, %x, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  // expected-error @below {{is the second of layer 0}}
  %b, %d = quern.attention %a, %x, %x, %c, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  return %b, %d : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  // expected-error @below {{token ids must be argument 0 of 'forward'}}
  %x = quern.embedding %positions, %embd : tensor<?xi32>, tensor<64x16xf32>
  return %x, %cache : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x16xf32>
  // expected-error @below {{sequence slots must be argument 2 of 'forward'}}
  %a, %c = quern.attention %x, %x, %x, %cache, %positions, %positions layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  return %a, %c : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x16xf32>
  %a, %c = quern.attention %x, %x, %x, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  // expected-error @below {{must return the cache that the last attention made}}
  return %a, %cache : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  // expected-error @below {{is not model-level: a model holds 'quern' ops only}}
  %zero = arith.constant dense<0.0> : tensor<64x16xf32>
  %x = quern.embedding %tokens, %zero : tensor<?xi32>, tensor<64x16xf32>
  return %x, %cache : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<2x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
// expected-error @below {{the cache has 2 layers, but no attention is of layer 1}}
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %x = quern.embedding %tokens, %embd : tensor<?xi32>, tensor<64x16xf32>
  %a, %c = quern.attention %x, %x, %x, %cache, %positions, %sequences layer = 0 scale = 1.0 : tensor<?x16xf32>, tensor<?x16xf32>, !cache, tensor<?xi32>
  return %a, %c : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  %twice = quern.scale %embd by 2.0 : tensor<64x16xf32>
  // expected-error @below {{table must be a quern.use}}
  %x = quern.embedding %tokens, %twice : tensor<?xi32>, tensor<64x16xf32>
  return %x, %cache : tensor<?x16xf32>, !cache
}

// -----

!cache = !quern.kv_cache<1x2x8xf16, context = 64>
quern.file @f path "f" size 1000000
quern.weight @embd : tensor<64x16xf32> layout<gguf> from [data @f at 0 size 4096]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> (tensor<?x16xf32>, !cache) {
  %embd = quern.use @embd : tensor<64x16xf32>
  // expected-error @below {{must be folded into a weight before compilation}}
  %q = quern.quantize %embd : tensor<64x16xf32> to tensor<64x16xf32, #quern.f16>
  %x = quern.embedding %tokens, %q : tensor<?xi32>, tensor<64x16xf32, #quern.f16>
  return %x, %cache : tensor<?x16xf32>, !cache
}
