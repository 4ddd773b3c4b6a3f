// RUN: quern-opt %s --split-input-file --verify-diagnostics

func.func private @gain(%x: memref<8x64xf32>, %g: memref<48xf32>, %b: index) {
  // expected-error @+1 {{expects rows of a multiple of the gain (48) elements, found 'memref<8x64xf32>'}}
  quern_kernel.tile_rms_norm %x, %g to %x rows %b, %b {epsilon = 1.0e-5 : f32}
      : memref<8x64xf32>, memref<48xf32>, memref<8x64xf32>
  return
}

// -----

func.func private @table(%p: memref<8xi32>, %t: memref<8x6xf32>, %b: index) {
  // expected-error @+1 {{expects table rows of twice the 2 frequencies, found 'memref<8x6xf32>'}}
  quern_kernel.tile_rope_table %p to %t rows %b, %b
      {factor = 1.0 : f32, frequencies = array<f32: 1.0, 0.5>} : memref<8xi32>, memref<8x6xf32>
  return
}

// -----

func.func private @rope(%x: memref<8x64xf32>, %t: memref<8x48xf32>, %b: index) {
  // expected-error @+1 {{expects an even number of rotated dimensions, at most 32, found 48}}
  quern_kernel.tile_rope %x by %t rows %b, %b {heads = 2} : memref<8x64xf32>, memref<8x48xf32>
  return
}

// -----

func.func private @capacity(%x: memref<8x64xf32>, %c: memref<4x4096xf32>, %p: memref<8xi32>, %b: index) {
  // expected-error @+1 {{expects a capacity that is a positive multiple of 16, found 20}}
  quern_kernel.tile_store_kv %x, %x to %c, %c at %p, %p rows %b, %b {kv_heads = 2, capacity = 20}
      : memref<8x64xf32>, memref<8x64xf32>, memref<4x4096xf32>, memref<4x4096xf32>, memref<8xi32>, memref<8xi32>
  return
}

// -----

func.func private @slot(%x: memref<8x64xf32>, %c: memref<4x512xf32>, %p: memref<8xi32>, %b: index) {
  // expected-error @+1 {{expects cache slots of at least 1024 elements, found 'memref<4x512xf32>'}}
  quern_kernel.tile_store_kv %x, %x to %c, %c at %p, %p rows %b, %b {kv_heads = 2, capacity = 16}
      : memref<8x64xf32>, memref<8x64xf32>, memref<4x512xf32>, memref<4x512xf32>, memref<8xi32>, memref<8xi32>
  return
}

// -----

func.func private @scales(%x: memref<8x64xf32>, %c: memref<4x1024xi8>, %p: memref<8xi32>, %b: index) {
  // expected-error @+1 {{expects scales with an i8 cache, and only then}}
  quern_kernel.tile_store_kv %x, %x to %c, %c at %p, %p rows %b, %b {kv_heads = 2, capacity = 16}
      : memref<8x64xf32>, memref<8x64xf32>, memref<4x1024xi8>, memref<4x1024xi8>, memref<8xi32>, memref<8xi32>
  return
}

// -----

func.func private @groups(%x: memref<8x64xf32>, %c: memref<4x4096xf32>, %p: memref<8xi32>, %b: index) {
  // expected-error @+1 {{expects heads (2) to be a multiple of kv_heads (3)}}
  quern_kernel.tile_attention %x over %c, %c at %p, %p to %x units %b, %b tokens %b
      {heads = 2, kv_heads = 3, capacity = 16, scale = 1.0 : f32, token_block = 1, row_block = 1}
      : memref<8x64xf32>, memref<4x4096xf32>, memref<4x4096xf32>, memref<8xi32>, memref<8xi32>, memref<8x64xf32>
  return
}

// -----

func.func private @linear(%x: memref<8x64xf32>, %w: memref<64xi8>, %b: index) {
  // expected-error @+1 {{expects f32 rows for form f32 and bytes for the others, found 'memref<8x64xf32>'}}
  quern_kernel.tile_linear q8 %x, %w to %x panels %b, %b tokens %b of tensor<64x64xf32>
      : memref<8x64xf32>, memref<64xi8>, memref<8x64xf32>
  return
}

// -----

func.func private @kernel(%x: memref<8x64xf32>, %b: index, %e: index, %t: index) { return }
quern_kernel.schedule @step max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x32xf32>
  // expected-error @+1 {{expects kernel @kernel to take its 1 buffers and (begin, end, tokens)}}
  quern_kernel.launch @kernel(%x) over rows %n tokens %n : memref<8x32xf32>
}

// -----

quern_kernel.schedule @step max_tokens 8 {
  %n = quern_kernel.step_count tokens
  // expected-error @+1 {{refers to unknown kernel @missing}}
  quern_kernel.launch @missing() over rows %n tokens %n
}

// -----

quern_kernel.schedule @step max_tokens 8 {
  // expected-error @+1 {{is not an operation of a schedule}}
  %a = memref.alloc() : memref<8xf32>
}
