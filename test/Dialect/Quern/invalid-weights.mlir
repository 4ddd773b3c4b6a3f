// RUN: quern-opt %s --split-input-file --verify-diagnostics

// expected-error @below {{needs a path}}
quern.file @f path "" size 1

// -----

// expected-error @below {{size must not be negative, found -1}}
quern.file @f path "f" size -1

// -----

// expected-note @below {{see existing symbol definition here}}
quern.weight @w : tensor<4xf32>
// expected-error @below {{redefinition of symbol named 'w'}}
quern.weight @w : tensor<4xf32>

// -----

// expected-error @below {{a stored tensor of static shape}}
quern.weight @w : tensor<?x32xf32, #quern.q4_0>

// -----

// expected-error @below {{a stored tensor of static shape}}
quern.weight @w : tensor<4x32xf16>

// -----

quern.file @f path "f" size 100
// expected-error @below {{has components of 71 bytes, but its type takes 72}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from [data @f at 0 size 71]

// -----

quern.file @f path "f" size 100
// expected-error @below {{has components of 80 bytes, but its type takes 72}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<canonical> from [codes @f at 0 size 64, scales @f at 64 size 16]

// -----

quern.file @f path "f" size 100
// expected-error @below {{ends beyond @f: bytes [29, +72) of 100}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from [data @f at 29 size 72]

// -----

// Offset plus size overflows 64 bits.
quern.file @f path "f" size 100
// expected-error @below {{ends beyond @f}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from [data @f at 18446744073709551600 size 72]

// -----

// expected-error @below {{lies in @g, which is not a file}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from [data @g at 0 size 72]

// -----

quern.file @f path "f" size 100
// expected-error @below {{has components but no layout}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> from [data @f at 0 size 72]

// -----

// expected-error @below {{has an empty list of components}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from []

// -----

quern.file @f path "f" size 100
// expected-error @below {{lies in GGUF blocks, which hold 'data', found 'codes'}}
quern.weight @w : tensor<4x32xf32, #quern.q4_0> layout<gguf> from [codes @f at 0 size 72]

// -----

// expected-error @below {{views @w, which is not a weight}}
quern.weight @v : tensor<4x32xf32, #quern.q4_0> view of @w rows 0

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{takes rows [5, 9) of @w, which has 8}}
quern.weight @v : tensor<4x32xf32, #quern.q4_0> view of @w rows 5

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{takes rows [-1, 3) of @w, which has 8}}
quern.weight @v : tensor<4x32xf32, #quern.q4_0> view of @w rows -1

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{has another format than @w, which it views}}
quern.weight @v : tensor<4x32xf32, #quern.q4_1> view of @w rows 0

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{cannot be rows of 'tensor<8x32xf32, #quern.q4_0>'}}
quern.weight @v : tensor<4x64xf32, #quern.q4_0> view of @w rows 0

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
quern.weight @v : tensor<4x32xf32, #quern.q4_0> view of @w rows 0
// expected-error @below {{views @v, which is a view itself}}
quern.weight @u : tensor<2x32xf32, #quern.q4_0> view of @v rows 0

// -----

quern.weight @w : tensor<16x32xf32, #quern.format<i4, scale f16[8x32]>>
// expected-error @below {{cuts the groups of 8 rows of its format}}
quern.weight @v : tensor<8x32xf32, #quern.format<i4, scale f16[8x32]>> view of @w rows 4

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{is a view, which has neither a layout nor components of its own}}
quern.weight @v : tensor<4x32xf32, #quern.q4_0> layout<gguf> view of @w rows 0

// -----

// expected-error @below {{has a first row but is not a view}}
"quern.weight"() {sym_name = "w", type = tensor<8x32xf32>, row_begin = 0 : i64} : () -> ()

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
// expected-error @below {{is a view, which needs the row it begins at}}
"quern.weight"() {sym_name = "v", type = tensor<8x32xf32, #quern.q4_0>, source = @w} : () -> ()

// -----

func.func @unknown() {
  // expected-error @below {{@w is not a weight}}
  %0 = quern.use @w : tensor<8x32xf32>
  return
}

// -----

quern.weight @w : tensor<8x32xf32, #quern.q4_0>
func.func @type() {
  // expected-error @below {{has type 'tensor<8x32xf32>', but @w is 'tensor<8x32xf32, #quern.q4_0>'}}
  %0 = quern.use @w : tensor<8x32xf32>
  return
}

// -----

func.func @nested() {
  // expected-error @below {{expects parent op 'builtin.module'}}
  quern.weight @w : tensor<8x32xf32>
  return
}

// -----

// expected-error @below {{requires attribute 'weight'}}
%0 = "quern.use"() : () -> tensor<8x32xf32>
