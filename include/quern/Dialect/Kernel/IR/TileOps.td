//===- TileOps.td - What kernels compute -------------------------------------===//
//
// Each tile operation works on a range of rows, columns or units of statically shaped
// buffers. Rows are the last dimension; buffers are dense and row-major.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_TILEOPS
#define QUERN_DIALECT_KERNEL_IR_TILEOPS

include "quern/Dialect/Kernel/IR/ScheduleOps.td"

def Kernel_F32Buffer : StaticShapeMemRefOf<[F32]>;
def Kernel_I32Buffer : StaticShapeMemRefOf<[I32]>;
def Kernel_FloatBuffer : StaticShapeMemRefOf<[F32, F16, BF16]>;
def Kernel_CacheBuffer : StaticShapeMemRefOf<[F32, F16, I8]>;

class Kernel_TileOp<string mnemonic, list<Trait> traits = []>
    : Kernel_Op<"tile_" # mnemonic, traits>;

def Kernel_TileRmsNormOp : Kernel_TileOp<"rms_norm"> {
  let summary = "x / sqrt(mean(x^2) + epsilon) * gain, row by row";
  let description = [{
    A row is as long as the gain, so a buffer [tokens, heads * 64] with a gain of 64 has
    tokens * heads rows. With `unit_offset` the stored gain g means 1 + g. `out` may be `x`.
  }];
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_FloatBuffer:$gain, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end, F32Attr:$epsilon, UnitAttr:$unit_offset);
  let assemblyFormat = [{
    $x `,` $gain `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($gain) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileLayerNormOp : Kernel_TileOp<"layer_norm"> {
  let summary = "(x - mean) / sqrt(variance + epsilon) * gain + bias, row by row";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_FloatBuffer:$gain,
                       Optional<Kernel_FloatBuffer>:$bias, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end, F32Attr:$epsilon);
  let assemblyFormat = [{
    $x `,` $gain (`bias` $bias^)? `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($gain) (`bias` type($bias)^)? `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileRopeTableOp : Kernel_TileOp<"rope_table"> {
  let summary = "cosines and sines of position x frequency";
  let description = [{
    Row t of `out` holds the cosines of positions[t] * frequencies[i], then the sines, both
    times `factor`. The angle and its reduction are computed in f64, so that both are right to
    f32 rounding at any position.
  }];
  let arguments = (ins Kernel_I32Buffer:$positions, Kernel_F32Buffer:$out, Index:$begin,
                       Index:$end, DenseF32ArrayAttr:$frequencies, F32Attr:$factor);
  let assemblyFormat = [{
    $positions `to` $out `rows` $begin `,` $end attr-dict `:` type($positions) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileRopeOp : Kernel_TileOp<"rope"> {
  let summary = "rotates pairs of each head in place";
  let description = [{
    Row r is head r % heads of token r / heads. Pairs are (i, i + dims/2), or (2i, 2i+1) when
    `interleaved`, where dims is the length of a table row; further elements stay.
  }];
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$table, Index:$begin, Index:$end,
                       I64Attr:$heads, UnitAttr:$interleaved);
  let assemblyFormat = [{
    $x `by` $table `rows` $begin `,` $end attr-dict `:` type($x) `,` type($table)
  }];
  let hasVerifier = 1;
}

def Kernel_TileStoreKvOp : Kernel_TileOp<"store_kv", [AttrSizedOperandSegments]> {
  let summary = "stores keys and values of new tokens into the cache";
  let description = [{
    Row r is head r % kv_heads of token r / kv_heads. In the cache, keys lie as
    [kv_head][position / 16][dim][position % 16] (a vector holds one dimension of 16
    positions, so that scores need no horizontal sums) and values as
    [kv_head][position][dim]. An i8 cache holds q8_0: absmax / 127 scales in f16 per 32
    dimensions, in `k_scales` [kv_head][position / 16][dim / 32][position % 16] and
    `v_scales` [kv_head][position][dim / 32]. With `code_bits` 4 a byte holds two codes from -7 to
    7 in two's complement, the low half first, and a head has one scale of absmax / 7: keys
    [kv_head][position / 16][dim / 2][position % 16] of dimensions 2i and 2i + 1, values
    [kv_head][position][dim / 32][16] of dimensions i and 16 + i, scales [kv_head][position].
  }];
  let arguments = (ins Kernel_F32Buffer:$k, Kernel_F32Buffer:$v, Kernel_CacheBuffer:$k_cache,
                       Kernel_CacheBuffer:$v_cache, Optional<Kernel_CacheBuffer>:$k_scales,
                       Optional<Kernel_CacheBuffer>:$v_scales, Kernel_I32Buffer:$positions,
                       Kernel_I32Buffer:$sequences, Index:$begin, Index:$end, I64Attr:$kv_heads,
                       I64Attr:$capacity, DefaultValuedAttr<I64Attr, "8">:$code_bits);
  let assemblyFormat = [{
    $k `,` $v `to` $k_cache `,` $v_cache (`scales` $k_scales^ `,` $v_scales)? `at` $positions `,`
    $sequences `rows` $begin `,` $end attr-dict `:` type($k) `,` type($v) `,` type($k_cache) `,`
    type($v_cache) (`scales` type($k_scales)^ `,` type($v_scales))? `,` type($positions) `,`
    type($sequences)
  }];
  let hasVerifier = 1;
}

def Kernel_TileAttentionOp : Kernel_TileOp<"attention", [AttrSizedOperandSegments]> {
  let summary = "causal attention of query rows over the cache, with an online softmax";
  let description = [{
    Work units are (kv head, block of `token_block` tokens); the tokens of a block that share
    a sequence slot, times the query heads of the kv head, are worked on `row_block` rows at a
    time. A query at position p sees positions 0..p, or p-window+1..p with a window.
    Scores are q.k * scale, then softcap * tanh(score / softcap) when softcap is not 0.
    The cache is as `tile_store_kv` leaves it.
  }];
  let arguments = (ins Kernel_F32Buffer:$q, Kernel_CacheBuffer:$k_cache,
                       Kernel_CacheBuffer:$v_cache, Optional<Kernel_CacheBuffer>:$k_scales,
                       Optional<Kernel_CacheBuffer>:$v_scales, Kernel_I32Buffer:$positions,
                       Kernel_I32Buffer:$sequences, Kernel_F32Buffer:$out, Index:$begin,
                       Index:$end, Index:$tokens, I64Attr:$heads, I64Attr:$kv_heads,
                       I64Attr:$capacity, F32Attr:$scale, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F32Attr, "0.0f">:$softcap, I64Attr:$token_block,
                       I64Attr:$row_block, DefaultValuedAttr<I64Attr, "8">:$code_bits);
  let assemblyFormat = [{
    $q `over` $k_cache `,` $v_cache (`scales` $k_scales^ `,` $v_scales)? `at` $positions `,`
    $sequences `to` $out `units` $begin `,` $end `tokens` $tokens attr-dict `:` type($q) `,`
    type($k_cache) `,` type($v_cache) (`scales` type($k_scales)^ `,` type($v_scales))? `,`
    type($positions) `,` type($sequences) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileGatedActivationOp : Kernel_TileOp<"gated_activation"> {
  let summary = "activation(gate) * up over columns [begin, end) of the first `rows` rows";
  let arguments = (ins Kernel_F32Buffer:$gate, Kernel_F32Buffer:$up, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end, Index:$rows, Kernel_GateFunctionAttr:$function);
  let assemblyFormat = [{
    `` $function $gate `,` $up `to` $out `columns` $begin `,` $end `rows` $rows attr-dict
    `:` type($gate) `,` type($up) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileSoftcapOp : Kernel_TileOp<"softcap"> {
  let summary = "cap * tanh(x / cap) in place over columns [begin, end) of the first `rows` rows";
  let arguments = (ins Kernel_F32Buffer:$x, Index:$begin, Index:$end, Index:$rows, F32Attr:$cap);
  let assemblyFormat = [{
    $x `columns` $begin `,` $end `rows` $rows attr-dict `:` type($x)
  }];
}

def Kernel_TileAddOp : Kernel_TileOp<"add"> {
  let summary = "a + b, row by row";
  let arguments = (ins Kernel_F32Buffer:$a, Kernel_F32Buffer:$b, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end);
  let assemblyFormat = [{
    $a `,` $b `to` $out `rows` $begin `,` $end attr-dict
    `:` type($a) `,` type($b) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileScaleOp : Kernel_TileOp<"scale"> {
  let summary = "x * factor, row by row";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$out, Index:$begin, Index:$end,
                       F32Attr:$factor);
  let assemblyFormat = [{
    $x `to` $out `rows` $begin `,` $end attr-dict `:` type($x) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileScaleChannelsOp : Kernel_TileOp<"scale_channels"> {
  let summary = "x * factors[column], row by row";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$factors, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end);
  let assemblyFormat = [{
    $x `by` $factors `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($factors) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileOutliersOp : Kernel_TileOp<"outliers"> {
  let summary = "x where its magnitude is `threshold` or more, else 0, row by row";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$out, Index:$begin, Index:$end,
                       F32Attr:$threshold);
  let assemblyFormat = [{
    $x `to` $out `rows` $begin `,` $end attr-dict `:` type($x) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileHadamardOp : Kernel_TileOp<"hadamard"> {
  let summary = "each run of `block` features times a Hadamard matrix over its root";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$out, Index:$begin, Index:$end,
                       I64Attr:$block);
  let assemblyFormat = [{
    $x `to` $out `rows` $begin `,` $end `block` `=` $block attr-dict `:` type($x) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileTakeRowsOp : Kernel_TileOp<"take_rows"> {
  let summary = "out[r] = x[indices[r]]";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_I32Buffer:$indices, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end);
  let assemblyFormat = [{
    $x `[` $indices `]` `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($indices) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileTakeColumnsOp : Kernel_TileOp<"take_columns"> {
  let summary = "out[r, j] = x[r, indices[j]]";
  let description = [{
    Puts a product's operand into the order that its weight, a column split, has its columns in.
  }];
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_I32Buffer:$indices, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end);
  let assemblyFormat = [{
    $x `[` $indices `]` `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($indices) `,` type($out)
  }];
  let hasVerifier = 1;
}

def Kernel_TileRouteOp : Kernel_TileOp<"route"> {
  let summary = "softmax over experts, the best few, and their weights";
  let description = [{
    Row t of `experts` receives the indices of the largest probabilities of row t of `logits`,
    in descending order (the lower index first among equals), and of `weights` the
    probabilities, divided by their sum when `normalize`.
  }];
  let arguments = (ins Kernel_F32Buffer:$logits, Kernel_I32Buffer:$experts,
                       Kernel_F32Buffer:$weights, Index:$begin, Index:$end, UnitAttr:$normalize);
  let assemblyFormat = [{
    $logits `to` $experts `,` $weights `rows` $begin `,` $end attr-dict
    `:` type($logits) `,` type($experts) `,` type($weights)
  }];
  let hasVerifier = 1;
}

def Kernel_TileCombineExpertsOp : Kernel_TileOp<"combine_experts"> {
  let summary = "out[t] = sum over e of weights[t, e] * x[t, e]";
  let arguments = (ins Kernel_F32Buffer:$x, Kernel_F32Buffer:$weights, Kernel_F32Buffer:$out,
                       Index:$begin, Index:$end);
  let assemblyFormat = [{
    $x `by` $weights `to` $out `rows` $begin `,` $end attr-dict
    `:` type($x) `,` type($weights) `,` type($out)
  }];
  let hasVerifier = 1;
}

#endif
