//===- TileProducts.td - Tiles that read packed weights ----------------------===//
//
// Products, embedding rows, and the activations they take. The weight's logical type (shape and
// format) is an attribute; its bytes are panels (Format/PackedLayout.h).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_TILEPRODUCTS
#define QUERN_DIALECT_KERNEL_IR_TILEPRODUCTS

include "quern/Dialect/Kernel/IR/TileOps.td"

def Kernel_ByteBuffer : StaticShapeMemRefOf<[I8]>;

def Kernel_TileQuantizeOp : Kernel_TileOp<"quantize"> {
  let summary = "activations as a product reads them, row by row";
  let description = [{
    A row of `out` is laid out as `conversion::ActivationLayout` says for this form and length. int8 with
    `static_scale` has that scale and `static_zero` in every row (Reference/Activations.h). q8 and int8 may have
    codes of 4 `bits`, which lie as those of 8. The first `plain` columns of int8 rows stay f32: those of all
    sets but the last of a column split, which have that order here. Values of at least `outlier_threshold`
    count as 0.
  }];
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_ByteBuffer:$out, Index:$begin, Index:$end,
                       Kernel_ActivationAttr:$form, OptionalAttr<F32Attr>:$static_scale,
                       OptionalAttr<F32Attr>:$outlier_threshold,
                       DefaultValuedAttr<I32Attr, "0">:$static_zero,
                       DefaultValuedAttr<I32Attr, "8">:$bits, DefaultValuedAttr<I64Attr, "0">:$plain);
  let assemblyFormat = [{
    `` $form $x `to` $out `rows` $begin `,` $end attr-dict `:` type($x) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileLinearOp : Kernel_TileOp<"linear", [AttrSizedOperandSegments]> {
  let summary = "x times the transpose of a packed matrix";
  let description = [{
    Computes the 16 columns of each panel in [begin, end) for all tokens, then adds `bias` and
    `residual` (which may be `out`). `x` is f32 rows, or what `tile_quantize` made of them.
  }];
  let arguments = (ins StaticShapeMemRefOf<[F32, I8]>:$x, Kernel_ByteBuffer:$weight,
                       Optional<Kernel_F32Buffer>:$bias, Optional<Kernel_F32Buffer>:$residual,
                       Kernel_F32Buffer:$out, Index:$begin, Index:$end, Index:$tokens,
                       TypeAttr:$weight_type, Kernel_ActivationAttr:$form);
  let assemblyFormat = [{
    `` $form $x `,` $weight (`bias` $bias^)? (`plus` $residual^)? `to` $out `panels` $begin `,`
    $end `tokens` $tokens `of` $weight_type attr-dict `:` type($x) `,` type($weight)
    (`bias` type($bias)^)? (`plus` type($residual)^)? `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileExpertLinearOp : Kernel_TileOp<"expert_linear"> {
  let summary = "products with the matrices of each token's experts";
  let description = [{
    out[t, j] = x[t] W[experts[t, j]]^T, or x[t, j] in place of x[t] when `sliced`: panels
    [begin, end) of every expert's matrix, for all tokens.
  }];
  let arguments = (ins StaticShapeMemRefOf<[F32, I8]>:$x, Kernel_ByteBuffer:$weight,
                       Kernel_I32Buffer:$experts, Kernel_F32Buffer:$out, Index:$begin,
                       Index:$end, Index:$tokens, TypeAttr:$weight_type,
                       Kernel_ActivationAttr:$form, UnitAttr:$sliced);
  let assemblyFormat = [{
    `` $form $x `,` $weight `[` $experts `]` `to` $out `panels` $begin `,` $end `tokens` $tokens
    `of` $weight_type attr-dict `:` type($x) `,` type($weight) `,` type($experts) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileEmbeddingOp : Kernel_TileOp<"embedding"> {
  let summary = "decoded rows of a packed matrix";
  let arguments = (ins Kernel_I32Buffer:$tokens, Kernel_ByteBuffer:$table, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end, TypeAttr:$table_type);
  let assemblyFormat = [{
    $table `[` $tokens `]` `to` $out `rows` $begin `,` $end `of` $table_type attr-dict
    `:` type($table) `,` type($tokens) `,` type($out)
  }];
}

#endif
