//===- QuernAttributes.td - Formats, layouts and the rest --*- tablegen -*-===//
//
// Attributes of the model-level dialect. The format attribute wraps the plain
// C++ format::Spec; its spelling is the Format library's.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_TD
#define QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/TensorEncoding.td"
include "quern/Dialect/Quern/IR/QuernDialect.td"

class Quern_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Quern_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

class Quern_I32Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::quern";
  let genSpecializedAttr = 0;
}

//===----------------------------------------------------------------------===//
// Format
//===----------------------------------------------------------------------===//

def Quern_FormatAttr : Quern_Attr<"Format", "format",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "how the numbers of a tensor are stored";
  let description = [{
    The encoding of a tensor type. It says how a number is stored, and nothing about
    the data: scales, codes and learned tables are data of the tensor.

    ```mlir
    // 4-bit codes with two levels of scales and offsets, the outer one per 256.
    tensor<4096x4096xf32, #quern.format<ui4, scale f16[1x256] * ui6[1x32], minus f16[1x256] * ui6[1x32]>>
    // The same, under its common name.
    tensor<4096x4096xf32, #quern.q4_K>
    ```

    A format with a common name is always printed by that name. docs/Formats.md
    gives the grammar and every name.
  }];
  let parameters = (ins
    AttrParameter<"::quern::format::Spec", "the format",
                  "const ::quern::format::Spec &">:$spec
  );
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Layout
//===----------------------------------------------------------------------===//

def Quern_LayoutKind : Quern_I32Enum<"LayoutKind", "how components lie in memory", [
  I32EnumAttrCase<"Canonical", 0, "canonical">,
  I32EnumAttrCase<"GGUF", 1, "gguf">,
  I32EnumAttrCase<"Panel", 2, "panel">,
]>;

def Quern_LayoutAttr : Quern_Attr<"Layout", "layout"> {
  let summary = "where the components of a tensor lie";
  let description = [{
    `canonical`: each component a stream of its own, row by row, least significant bit
    first; a plain float matrix row-major. `gguf`: the block structs of GGUF files.
    `panel, R`: packed for kernels, R rows interleaved (docs/Formats.md).

    ```mlir
    #quern.layout<gguf>
    #quern.layout<panel, 16>
    ```
  }];
  let parameters = (ins
    EnumParameter<Quern_LayoutKind>:$kind,
    DefaultValuedParameter<"int64_t", "0", "rows of a panel">:$rows
  );
  let assemblyFormat = "`<` $kind (`,` $rows^)? `>`";
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

def Quern_ActivationFormat : Quern_I32Enum<"ActivationFormat",
                                           "how activations enter a product", [
  I32EnumAttrCase<"Fast", 0, "fast">,
  I32EnumAttrCase<"F32", 1, "f32">,
  I32EnumAttrCase<"BF16", 2, "bf16">,
  I32EnumAttrCase<"Q8", 3, "q8">,
  I32EnumAttrCase<"Int8", 4, "int8">,
  I32EnumAttrCase<"Int4", 5, "int4">,
  I32EnumAttrCase<"Q4", 6, "q4">,
]>;

def Quern_ActivationAttr : EnumAttr<Quern_Dialect, Quern_ActivationFormat, "activation"> {
  let summary = "how activations enter a product";
  let description = [{
    `f32` and `bf16`: rounded to that type. `q8`: int8 in groups of 32 along K, each
    with an f32 scale of absmax/127. `int8`: int8 with one such scale per token. `q4` and `int4`: the
    same with codes in [-7, 7] and a scale of absmax/7. Of a column split, `int8` and `int4` round the
    columns of the last set alone, with a scale of their own; those of the others stay f32.
    `fast`: `q8` or `bf16`, whichever serves the weight better: `q8` where its codes are
    integers of fewer than 8 bits, else `bf16`. This is the only choice by which code generation
    may change results beyond rounding.
  }];
  let assemblyFormat = "`<` $value `>`";
}

//===----------------------------------------------------------------------===//
// Components of a weight
//===----------------------------------------------------------------------===//

def Quern_ComponentRole : Quern_I32Enum<"ComponentRole", "what a component holds", [
  I32EnumAttrCase<"Data", 0, "data">,
  I32EnumAttrCase<"Codes", 1, "codes">,
  I32EnumAttrCase<"Scales", 2, "scales">,
  I32EnumAttrCase<"Offsets", 3, "offsets">,
  I32EnumAttrCase<"Zeros", 4, "zeros">,
  I32EnumAttrCase<"Table", 5, "table">,
]>;

def Quern_ComponentAttr : Quern_Attr<"Component", "component"> {
  let summary = "a byte range of a file that holds part of a weight";
  let description = [{
    `data` holds everything, interleaved as the layout says; the other roles hold one
    stream each, with `level` counting from the outermost. Several `data` components
    follow each other along the outermost dimension (rows, or experts).
  }];
  let parameters = (ins
    EnumParameter<Quern_ComponentRole>:$role,
    AttrParameter<"::mlir::FlatSymbolRefAttr", "the quern.file">:$file,
    "uint64_t":$offset,
    "uint64_t":$size,
    DefaultValuedParameter<"unsigned", "0", "level of a scale, offset or zero">:$level
  );
  let assemblyFormat = [{
    `<` $role `,` $file `,` `offset` `=` $offset `,` `size` `=` $size
    (`,` `level` `=` $level^)? `>`
  }];
}

//===----------------------------------------------------------------------===//
// Rotary embedding
//===----------------------------------------------------------------------===//

def Quern_RopePairing : Quern_I32Enum<"RopePairing", "which dimensions rotate together", [
  I32EnumAttrCase<"NeoX", 0, "neox">,
  I32EnumAttrCase<"Interleaved", 1, "interleaved">,
]>;

def Quern_RopeAttr : Quern_Attr<"Rope", "rope"> {
  let summary = "the angles of a rotary position embedding";
  let description = [{
    Pair `i` of a head is rotated by `position * frequencies[i]`, its cosine and
    sine multiplied by `factor`. `neox` pairs dimension `i` with `i + pairs`,
    `interleaved` pairs `2i` with `2i + 1`. Dimensions beyond `2 * pairs` stay.
    Any scaling of positions or frequencies is already in the table.

    ```mlir
    #rope = #quern.rope<neox, factor = 1.0, frequencies = [1.0, 0.1, 0.01, 0.001]>
    ```
  }];
  let parameters = (ins
    EnumParameter<Quern_RopePairing>:$pairing,
    AttrParameter<"::mlir::FloatAttr", "f32, multiplies cosine and sine">:$factorAttr,
    AttrParameter<"::mlir::DenseF32ArrayAttr", "angle per position, of each pair">:$frequenciesAttr
  );
  let builders = [
    AttrBuilder<(ins "::quern::RopePairing":$pairing, "float":$factor,
                     "::llvm::ArrayRef<float>":$frequencies), [{
      return $_get($_ctxt, pairing,
                   ::mlir::FloatAttr::get(::mlir::Float32Type::get($_ctxt), factor),
                   ::mlir::DenseF32ArrayAttr::get($_ctxt, frequencies));
    }]>,
  ];
  let extraClassDeclaration = [{
    float getFactor() const { return getFactorAttr().getValue().convertToFloat(); }
    ::llvm::ArrayRef<float> getFrequencies() const { return getFrequenciesAttr().asArrayRef(); }
  }];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

#endif // QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_TD
