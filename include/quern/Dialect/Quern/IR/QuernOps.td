//===- QuernOps.td - The ops of a decoder ------------------*- tablegen -*-===//
//
// Model-level computation. Tensors are logically f32; the first dimension counts
// tokens. Every op is pure; lib/Reference defines its result.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNOPS_TD
#define QUERN_DIALECT_QUERN_IR_QUERNOPS_TD

include "quern/Dialect/Quern/IR/QuernWeightOps.td"

def Quern_GatedActivation : Quern_I32Enum<"Gate", "the function of a gated activation", [
  I32EnumAttrCase<"SiLU", 0, "silu">,
  I32EnumAttrCase<"GeluTanh", 1, "gelu_tanh">,
  I32EnumAttrCase<"Gelu", 2, "gelu">,
]>;
def Quern_GateAttr : EnumAttr<Quern_Dialect, Quern_GatedActivation, "gate"> {
  let summary = "the function of a gated activation";
  let description = [{
    `silu`: x / (1 + exp(-x)). `gelu`: x Φ(x). `gelu_tanh`: its tanh approximation.
  }];
  let assemblyFormat = "`<` $value `>`";
}

class Quern_InferringOp<string mnemonic, list<Trait> traits = []>
    : Quern_Op<mnemonic, !listconcat([Pure, InferTypeOpAdaptor], traits)> {
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Products with stored matrices
//===----------------------------------------------------------------------===//

def Quern_EmbeddingOp : Quern_InferringOp<"embedding"> {
  let summary = "rows of a stored matrix, decoded";
  let description = [{
    ```mlir
    %x = quern.embedding %tokens, %table : tensor<?xi32>, tensor<49152x576xf32, #quern.q8_0>
    ```
  }];
  let arguments = (ins Quern_Indices:$tokens, Quern_StoredMatrix:$table);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = "$tokens `,` $table attr-dict `:` type($tokens) `,` type($table)";
}

def Quern_LinearOp : Quern_InferringOp<"linear", [Quern_WeightedOpInterface]> {
  let summary = "y = x Wᵀ + b with a stored W";
  let description = [{
    `activations` says how `x` enters the product: see `#quern.activation`. With `static_scale`, int8 activations
    have that scale for all tokens in place of one made from each (Reference/Activations.h), and enter
    as `x + static_scale * static_zero`: whoever chose a zero put the difference into the bias.

    With `outlier_threshold`, activations of q8, int8, q4 and int4 of at least that magnitude are not rounded: they
    enter as they are, and 0 takes their place among the others (LLM.int8(), token by token). Other
    activations are not rounded to integers, so that it means nothing to them. The product is computed
    twice, with the others in integers and with the outliers in f32.

    ```mlir
    %y = quern.linear %x, %w activations<fast>
        : tensor<?x576xf32>, tensor<1536x576xf32, #quern.q4_K>
    %z = quern.linear %x, %w bias %b activations<f32>
        : tensor<?x576xf32>, tensor<1536x576xf32, #quern.f16>, tensor<1536xf32>
    %s = quern.linear %x, %w activations<int8> {static_scale = 3.0e-2 : f32}
        : tensor<?x576xf32>, tensor<1536x576xf32, #quern.q4_K>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, Quern_StoredMatrix:$weight,
                       Optional<Quern_StoredVector>:$bias,
                       Quern_ActivationAttr:$activations, OptionalAttr<F32Attr>:$static_scale,
                       OptionalAttr<F32Attr>:$outlier_threshold,
                       DefaultValuedAttr<I32Attr, "0">:$static_zero);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = [{
    $x `,` $weight (`bias` $bias^)? `activations` `` $activations attr-dict
    `:` type($x) `,` type($weight) (`,` type($bias)^)?
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$x, "::mlir::Value":$weight,
                                 "::mlir::Value":$bias, "::quern::ActivationFormat":$activations), [{
    build($_builder, $_state, x, weight, bias, activations, ::mlir::FloatAttr(), ::mlir::FloatAttr());
  }]>];
  let extraClassDeclaration = [{
    ::mlir::OpOperand &getWeightOperand() { return getWeightMutable(); }
    ::mlir::OpOperand &getInputOperand() { return getXMutable(); }
  }];
}

def Quern_ExpertLinearOp : Quern_InferringOp<"expert_linear", [Quern_WeightedOpInterface]> {
  let summary = "a product with the matrices of the chosen experts";
  let description = [{
    `y[t, j] = x[t] W[ids[t, j]]ᵀ`, or `x[t, j]` in place of `x[t]` where `x` has a
    slice for each chosen expert.

    ```mlir
    %y = quern.expert_linear %x, %w, %ids activations<fast>
        : tensor<?x2048xf32>, tensor<128x768x2048xf32, #quern.q4_K>, tensor<?x8xi32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$x, Quern_StoredStack:$weight, Quern_ExpertIds:$ids,
                       Quern_ActivationAttr:$activations);
  let results = (outs Quern_Slices:$result);
  let assemblyFormat = [{
    $x `,` $weight `,` $ids `activations` `` $activations attr-dict
    `:` type($x) `,` type($weight) `,` type($ids)
  }];
  let extraClassDeclaration = [{
    ::mlir::OpOperand &getWeightOperand() { return getWeightMutable(); }
    ::mlir::OpOperand &getInputOperand() { return getXMutable(); }
  }];
}

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

def Quern_RMSNormOp : Quern_Op<"rms_norm", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "root mean square norm";
  let description = [{
    Each run of `len(gain)` consecutive features is divided by the root of its mean
    square plus `eps`, then multiplied by `gain` (`unit_offset`: by `1 + gain`). A
    gain shorter than a row normalises each head by itself.

    ```mlir
    %y = quern.rms_norm %x, %gain eps = 1.0e-5 : tensor<?x576xf32>, tensor<576xf32>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, Quern_StoredVector:$gain, F32Attr:$eps,
                       UnitAttr:$unit_offset);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = [{
    $x `,` $gain `eps` `=` $eps (`unit_offset` $unit_offset^)? attr-dict
    `:` type($x) `,` type($gain)
  }];
  let hasVerifier = 1;
}

def Quern_LayerNormOp : Quern_Op<"layer_norm", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "layer norm";
  let description = [{
    `(x - mean) / sqrt(variance + eps) * gain + bias`, over each row.

    ```mlir
    %y = quern.layer_norm %x, %gain bias %b eps = 1.0e-5
        : tensor<?x768xf32>, tensor<768xf32>, tensor<768xf32>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, Quern_StoredVector:$gain,
                       Optional<Quern_StoredVector>:$bias, F32Attr:$eps);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = [{
    $x `,` $gain (`bias` $bias^)? `eps` `=` $eps attr-dict
    `:` type($x) `,` type($gain) (`,` type($bias)^)?
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

def Quern_RopeOp : Quern_Op<"rope", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "rotary position embedding";
  let description = [{
    Rotates pairs of dimensions of each head by angles that grow with the position.
    A row holds heads of `head_dim` numbers, one after another.

    ```mlir
    %r = quern.rope %q, %positions, #rope head_dim = 64 : tensor<?x576xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, Quern_Indices:$positions, Quern_RopeAttr:$rope,
                       I64Attr:$head_dim);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = [{
    $x `,` $positions `,` $rope `head_dim` `=` $head_dim attr-dict
    `:` type($x) `,` type($positions)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    int64_t getHeads() { return getX().getType().getDimSize(1) / getHeadDim(); }
    ::llvm::ArrayRef<float> getFrequencies() { return getRope().getFrequencies(); }
    float getFactor() { return getRope().getFactor(); }
    bool isInterleaved() { return getRope().getPairing() == RopePairing::Interleaved; }
  }];
}

def Quern_AttentionOp : Quern_Op<"attention", [Pure, AllTypesMatch<["q", "output"]>,
    AllTypesMatch<["k", "v"]>, AllTypesMatch<["positions", "sequences"]>,
    AllTypesMatch<["cache", "new_cache"]>,
    DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "causal attention over a key-value cache";
  let description = [{
    First writes key and value of every token to the cache, at its layer, sequence and
    position. Then every token attends to the positions `p` of its own sequence with
    `0 <= own - p` (and `own - p < window`, if there is one):
    `softmax(scale * q.k)` weighs the values. With a `softcap` c, `c * tanh(s / c)`
    replaces a score `s` first. Query head `h` reads key-value head `h / (heads / kv_heads)`.

    The number of key-value heads and their size are the cache's.

    ```mlir
    %o, %c = quern.attention %q, %k, %v, %cache, %positions, %sequences
        layer = 0 scale = 0.125 window = 512
        : tensor<?x576xf32>, tensor<?x192xf32>,
          !quern.kv_cache<30x3x64xf16, context = 2048>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Quern_Rows:$q, Quern_Rows:$k, Quern_Rows:$v, Quern_KvCacheType:$cache,
                       Quern_Indices:$positions, Quern_Indices:$sequences,
                       I64Attr:$layer, F32Attr:$scale, OptionalAttr<I64Attr>:$window,
                       OptionalAttr<F32Attr>:$softcap);
  let results = (outs Quern_Rows:$output, Quern_KvCacheType:$new_cache);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $cache `,` $positions `,` $sequences
    `layer` `=` $layer `scale` `=` $scale (`window` `=` $window^)?
    (`softcap` `=` $softcap^)? attr-dict
    `:` type($q) `,` type($k) `,` qualified(type($cache)) `,` type($positions)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    int64_t getHeadDim() { return getCache().getType().getHeadDim(); }
    int64_t getKvHeads() { return getCache().getType().getKvHeads(); }
    int64_t getHeads() { return getQ().getType().getDimSize(1) / getHeadDim(); }
  }];
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

def Quern_GatedActivationOp : Quern_Op<"gated_activation",
    [Pure, AllTypesMatch<["gate", "up", "result"]>]> {
  let summary = "f(gate) * up";
  let description = [{
    ```mlir
    %y = quern.gated_activation<silu> %gate, %up : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$gate, Quern_RowsOrSlices:$up,
                       Quern_GateAttr:$function);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "`` $function $gate `,` $up attr-dict `:` type($result)";
}

def Quern_AddOp : Quern_Op<"add", [Pure, Commutative, AllTypesMatch<["lhs", "rhs", "result"]>]> {
  let summary = "lhs + rhs";
  let description = [{
    ```mlir
    %y = quern.add %x, %delta : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$lhs, Quern_RowsOrSlices:$rhs);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}

def Quern_ScaleOp : Quern_Op<"scale", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "x times a constant";
  let description = [{
    ```mlir
    %y = quern.scale %x by 24.0 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$x, F32Attr:$factor);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "$x `by` $factor attr-dict `:` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Quern_ScaleChannelsOp : Quern_Op<"scale_channels", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "each channel times a number of its own";
  let description = [{
    Where scales can be moved into no weights in front (`quern-fold-scales` and its like, `sites=op`).

    ```mlir
    %y = quern.scale_channels %x by %s : tensor<?x576xf32>, tensor<576xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$x, Quern_StoredVector:$factors);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "$x `by` $factors attr-dict `:` type($x) `,` type($factors)";
  let hasVerifier = 1;
}

def Quern_HadamardOp : Quern_Op<"hadamard", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "rotates blocks of features by a Hadamard matrix";
  let description = [{
    Multiplies every run of `block` features by the symmetric Hadamard matrix of that size over the root of
    `block`: `y[i] = sum over j of (-1)^popcount(i and j) x[j] / sqrt(block)`, which spreads a
    large value over its block. It is its own inverse. `block` divides the row and is a power of two or f times
    one, f being 12, 28, 36 or 60: then runs of block / f are rotated, and after that the features at one place of all
    runs by Paley's matrix of size f (Reference/Hadamard.h). 576 = 36 x 16 and 1536 = 12 x 128 are one block.

    Sums are made in f32 in log2 stages, the pairs at distance 1 first, then f's; the factor comes last.

    ```mlir
    %y = quern.hadamard %x block = 1536 : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$x, ConfinedAttr<I64Attr, [IntPositive]>:$block);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "$x `block` `=` $block attr-dict `:` type($x)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Quern_SoftcapOp : Quern_Op<"softcap", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "cap * tanh(x / cap)";
  let description = [{
    ```mlir
    %y = quern.softcap %x to 30.0 : tensor<?x256000xf32>
    ```
  }];
  let arguments = (ins Quern_RowsOrSlices:$x, F32Attr:$cap);
  let results = (outs Quern_RowsOrSlices:$result);
  let assemblyFormat = "$x `to` $cap attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Quern_TakeRowsOp : Quern_InferringOp<"take_rows"> {
  let summary = "rows of activations, by index";
  let description = [{
    ```mlir
    %last = quern.take_rows %x, %outputs : tensor<?x576xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, Quern_Indices:$indices);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = "$x `,` $indices attr-dict `:` type($x) `,` type($indices)";
}

def Quern_ObserveOp : Quern_Op<"observe", [MemoryEffects<[MemWrite]>]> {
  let summary = "shows rows of activations to whoever runs the program";
  let description = [{
    Calibration needs what enters each product. `quern-insert-observers` puts one of these in
    front of the products that share an input and numbers them; the program then calls its
    caller's observer (`quern_set_observer`) with the rows of each step. `weights` names the
    matrices the rows are multiplied with. In a mixture the ids of the chosen experts are shown, too,
    in front of the rows that go to them. It computes nothing and changes nothing.

    ```mlir
    quern.observe %x as 3 for ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"] : tensor<?x576xf32>
    quern.observe %ids as 4 for ["blk.1.ffn_up_exps.weight"] : tensor<?x8xi32>
    ```
  }];
  let arguments = (ins AnyTypeOf<[Quern_RowsOrSlices, Quern_ExpertIds],
                                 "activations, or expert ids", "::mlir::RankedTensorType">:$x, ConfinedAttr<I64Attr, [IntNonNegative]>:$index,
                       StrArrayAttr:$weights);
  let assemblyFormat = "$x `as` $index `for` $weights attr-dict `:` type($x)";
}

def Quern_BoundaryOp : Quern_Op<"boundary", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "a place where a program can be entered and left";
  let description = [{
    Here `x` is all that the rest of the program needs, but for the cache and the arguments.
    `quern-insert-boundaries` numbers these places; the caller's function
    (`quern_set_boundary`) then sees the rows of `x` at each, may put others in their place, and says
    whether the part of the program up to the next boundary runs. Parts can so be run one at
    a time. It computes nothing.

    ```mlir
    quern.boundary %x as 3 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Quern_Rows:$x, ConfinedAttr<I64Attr, [IntNonNegative]>:$index);
  let assemblyFormat = "$x `as` $index attr-dict `:` type($x)";
}

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

def Quern_RouteOp : Quern_InferringOp<"route",
    [DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "chooses experts for each token";
  let description = [{
    Softmax over all experts, then the `top_k` largest (the lower id first among
    equals), in falling order; `normalize` divides their weights by their sum.

    ```mlir
    %ids, %weights = quern.route %logits top_k = 8 normalize : tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Quern_Rows:$logits, I64Attr:$top_k, UnitAttr:$normalize);
  let results = (outs Quern_ExpertIds:$ids, Quern_Rows:$weights);
  let assemblyFormat = [{
    $logits `top_k` `=` $top_k (`normalize` $normalize^)? attr-dict `:` type($logits)
  }];
}

def Quern_CombineExpertsOp : Quern_InferringOp<"combine_experts"> {
  let summary = "the weighted sum of the chosen experts' results";
  let description = [{
    `y[t] = sum over j of weights[t, j] * x[t, j]`.

    ```mlir
    %y = quern.combine_experts %x, %weights : tensor<?x8x2048xf32>, tensor<?x8xf32>
    ```
  }];
  let arguments = (ins Quern_Slices:$x, Quern_Rows:$weights);
  let results = (outs Quern_Rows:$result);
  let assemblyFormat = "$x `,` $weights attr-dict `:` type($x) `,` type($weights)";
}

//===----------------------------------------------------------------------===//
// Between formats
//===----------------------------------------------------------------------===//

def Quern_QuantizeOp : Quern_Op<"quantize", [Pure]> {
  let summary = "encodes a tensor, rounding to nearest";
  let description = [{
    ```mlir
    %q = quern.quantize %w : tensor<576x576xf32> to tensor<576x576xf32, #quern.q4_0>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `to` type($result)";
  let hasVerifier = 1;
}

def Quern_DequantizeOp : Quern_Op<"dequantize", [Pure]> {
  let summary = "decodes a tensor";
  let description = [{
    ```mlir
    %w = quern.dequantize %q : tensor<576x576xf32, #quern.q4_0> to tensor<576x576xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `to` type($result)";
  let hasVerifier = 1;
}

#endif // QUERN_DIALECT_QUERN_IR_QUERNOPS_TD
