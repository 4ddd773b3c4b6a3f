//===- Passes.td - Outlier migration -----------------------*- tablegen -*-===//
//
// Passes over model-level IR that change weights so that they, and what they are multiplied with,
// round better, and the model's results stay the same.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MIGRATE_PASSES_TD
#define QUERN_QUANTIZE_MIGRATE_PASSES_TD

include "mlir/Pass/PassBase.td"

/// What every transform of weights asks for.
class MigrationPass<string name, list<Option> more> : Pass<name, "::mlir::ModuleOp"> {
  let options = !listconcat(more, [
    Option<"data", "data", "std::string", "",
           "Folder for the changed weights, as f32; it must exist">,
  ]);
  let dependentDialects = ["::quern::QuernDialect"];
}

class ScalingPass<string name, string format, string activations, list<Option> more>
    : MigrationPass<name, !listconcat(more, [
    Option<"format", "format", "std::string", "\"" # format # "\"",
           "The format of the weights whose rounding error is to fall, as quern.format spells it">,
    Option<"activations", "activations", "std::string", "\"" # activations # "\"",
           "int8, int4: with one scale a token, their rounding counts, too; f32: not">,
    Option<"rows", "rows", "unsigned", "256", "Rows of a matrix that are rounded to try scales">,
    Option<"statistics", "statistics", "std::string", "", "File of `quern calibrate`">,
    ListOption<"sites", "sites", "std::string",
               "Only where this takes the inverse scales: norm, gate, attention (these three), or an op of its own: op">,
  ])> {
  let statistics = [
    Statistic<"scaled", "scaled", "Inputs of products whose channels were scaled">,
    Statistic<"left", "left", "Inputs that would round worse">,
    Statistic<"refused", "refused", "Inputs of products where that is not legal">,
  ];
}

def AnalyzeScalesPass : Pass<"quern-analyze-scales", "::mlir::ModuleOp"> {
  let summary = "Say where channels may be scaled, and what forbids it elsewhere";
  let description = [{
    The legality check that all scaling passes share, alone: a remark at the first product that
    reads an input says what would take the inverse of its scales, or names the use that forbids
    scaling it. Changes nothing and reads no data.

    ```mlir
    %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
    // remark: the channels that enter 'quern.linear' can be scaled: 'quern.rms_norm' absorbs it
    %y = quern.linear %n, %w activations<f32> : tensor<?x32xf32>, tensor<8x32xf32>
    ```
  }];
}

def FoldScalesPass : ScalingPass<"quern-fold-scales", "q4_0", "f32", [
    Option<"always", "always", "bool", "false", "Scale even where products round no better">,
    Option<"exponent", "exponent", "double", "0.5", "a of s = (absmax / mean absmax)^a">,
    Option<"limit", "limit", "double", "64", "Scales stay within [1/limit, limit]">]> {
  let summary = "Move the magnitude of activation channels into weights (Scale Folding)";
  let description = [{
    Divides channel j of an input of products by s_j = (a_j / mean a)^exponent, a being the
    largest magnitude seen, and multiplies column j of every matrix that reads it by s_j. The
    division costs nothing: the norm's gain, or the rows of the product that makes the
    channels, take it. Results are the same up to rounding in f32. An input whose rounding
    error, that of `quern-search-scales`, does not fall by a tenth is left.

    ```mlir
    // Before
    %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
    %y = quern.linear %n, %w activations<f32> : tensor<?x32xf32>, tensor<8x32xf32>
    // After: the same ops; @g holds g / s, and @w holds W diag(s)
    ```
  }];
}

def SmoothActivationsPass : ScalingPass<"quern-smooth-activations", "int8_channel", "int8", [
    Option<"always", "always", "bool", "false", "Scale even where products round no better">,
    Option<"strength", "strength", "double", "0.5",
           "a of s = max|X|^a / max|W|^(1 - a): 0 leaves outliers with activations, 1 with weights">]> {
  let summary = "Share outliers between activations and weights (SmoothQuant)";
  let description = [{
    As `quern-fold-scales`, with s_j = max|X_j|^a / max|W_j|^(1 - a), W over all matrices
    that read the input, normalised to a geometric mean of 1. Meant for activations in int8 with
    one scale a token, whose step its largest channel decides: the error of that rounding counts.
  }];
}

def SearchScalesPass : ScalingPass<"quern-search-scales", "q4_0", "f32", [
    Option<"steps", "steps", "unsigned", "20", "Exponents tried in [0, 1)">]> {
  let summary = "Search activation-aware scales that weights round best with (AWQ)";
  let description = [{
    As `quern-fold-scales`, with s_j = (mean |X_j|)^p over the root of the largest times the smallest:
    of `steps` exponents p from 0 (which changes nothing) the one that makes the error of the
    products' results least, tr(D H Dᵀ) with D = Q(W diag(s)) diag(s)^-1 - W, H = XᵀX, and Q
    rounding to nearest in `format`. With `activations=int8` that of rounding x / s is added: a twelfth of the
    step squared at every weight, the step coming from the statistics (fourth moments, largest values).
    Never worse than no scaling on the rows looked at.
  }];
}

def EqualizeRangesPass : ScalingPass<"quern-equalize-ranges", "int8_channel", "f32", [
    Option<"always", "always", "bool", "false", "Scale even where products round no better">]> {
  let summary = "Equal ranges for a channel's row and its column (cross-layer equalization)";
  let description = [{
    Where one product's channels are another's input, as of the ungated operand of a gate or the values of an
    attention: divides row j of the first matrix by s_j = sqrt(r_j / c_j) and multiplies column j of
    those that read it by it, r_j and c_j being their largest magnitudes, which makes both sqrt(r_j c_j).
    Weights alone decide it. With statistics, inputs whose products round worse are left, as in
    `quern-fold-scales`.
  }];
}

def PermuteChannelsPass : MigrationPass<"quern-permute-channels", [
    Option<"statistics", "statistics", "std::string", "", "File of `quern calibrate`, for by=activations">,
    Option<"by", "by", "std::string", "\"weights\"",
           "What alike channels have alike: the largest of their column's weights, or of their activations">,
    ListOption<"sites", "sites", "std::string", "Only of these: gate, attention (both); stream">]> {
  let summary = "Put channels of like magnitude next to each other";
  let description = [{
    Sorts the channels that enter a product, largest first, so that those which share a scale in groups of 32
    are alike, and moves the rows that make them with the columns that read them: rows of gate and up with columns
    of down; rows of the values with columns of the output of an attention, within each head. Results are the
    same but for the order of sums. The channels of the residual stream move as a whole or not at all, with `sites=stream`: the
    embedding's and the norms', the columns of what these give to and the rows of what adds to the stream.

    ```mlir
    // Before and after: the same ops; rows of @gate and @up, and columns of @down, lie in another order
    %g = quern.linear %n, %gate activations<f32> : tensor<?x32xf32>, tensor<96x32xf32>
    %u = quern.linear %n, %up activations<f32> : tensor<?x32xf32>, tensor<96x32xf32>
    %h = quern.gated_activation silu %g, %u : tensor<?x96xf32>
    %d = quern.linear %h, %down activations<f32> : tensor<?x96xf32>, tensor<32x96xf32>
    ```
  }];
  let statistics = [Statistic<"permuted", "permuted", "Inputs whose channels were sorted">,
                    Statistic<"refused", "refused", "Inputs where that is not legal">];
}

def KeepOutliersPass : Pass<"quern-keep-outliers", "::mlir::ModuleOp"> {
  let summary = "Do not round outliers among activations, whatever channel they are in (LLM.int8())";
  let description = [{
    Sets the threshold from which activations that are rounded to integers enter products as they are, found
    while the program runs, token by token (`quern.linear`). Every such product is computed twice, over the same
    weights: with the others in integers, with the outliers in f32, which are zero for most. A column split
    (`quern-split-columns`) costs next to nothing, but must know the channels. Products with static
    scales or column splits stay as they are; `quern-fold-calibration` may come after this pass.

    ```mlir
    // After
    %y = quern.linear %x, %w activations<int8> {outlier_threshold = 6.0 : f32}
        : tensor<?x576xf32>, tensor<1536x576xf32, #quern.q4_K>
    ```
  }];
  let options = [
    Option<"threshold", "threshold", "double", "6", "Magnitude from which an activation is an outlier">,
    ListOption<"only", "only", "std::string", "Patterns of weights whose products are meant (all)">,
  ];
  let dependentDialects = ["::quern::QuernDialect"];
  let statistics = [Statistic<"kept", "kept", "Products with a threshold">];
}

def ClipWeightsPass : MigrationPass<"quern-clip-weights", [
    Option<"statistics", "statistics", "std::string", "", "File of `quern calibrate`">,
    Option<"format", "format", "std::string", [{"q4_0"}],
           "The format whose rounding error is to fall, as quern.format spells it">,
    Option<"steps", "steps", "unsigned", "10", "Limits tried: 1 - i / (2 steps) of the largest">]> {
  let summary = "Clip weights to the range that rounds best (AWQ)";
  let description = [{
    Of each run of weights that share a scale in `format`, tries limits below the largest magnitude and keeps
    the one whose rounding changes the run's part of the results least: d H dᵀ, with the block of
    H = XᵀX that belongs to the run. A limit that is no better than none is not taken. Unlike the other passes
    here this one changes what the model computes: it is half of rounding, and
    comes last. Matrices that make queries or keys are left: softmax makes much of their largest products.
    The solver of `quern quantize` chooses scales by the same error itself.
  }];
  let statistics = [Statistic<"clipped", "clipped", "Matrices that were clipped">,
                    Statistic<"refused", "refused", "Matrices of products that were not">];
}

def FoldCalibrationPass : Pass<"quern-fold-calibration", "::mlir::ModuleOp"> {
  let summary = "Turn statistics of activations into constants of the products";
  let description = [{
    Products get int8 activations of one scale for all tokens, the largest magnitude seen times `clip`
    over 127, so that none is computed while the program runs. Those that share an input share its
    scale. Products that `dynamic` names (patterns of weights), those without statistics (a remark says so) and
    those of experts stay as they are: int8 with a scale for each token, say. Channels that a column
    split keeps, and magnitudes from an `outlier_threshold` on, are not rounded and do not count. With
    `keep-beyond`, what lies beyond the range enters as it is, instead of taking the range's end: statistics
    that keep first tokens apart (`quern calibrate --first-token`) leave them out of the range. With `zeros`
    a range that lies to one side of 0 is centred by a zero point, which the product's bias takes back; run it
    once weights are rounded, whose rows it adds up. No `quern.observe` remains.

    ```mlir
    // Before
    quern.observe %x as 0 for ["blk.0.ffn_down.weight"] : tensor<?x1536xf32>
    %y = quern.linear %x, %w activations<int8> : tensor<?x1536xf32>, tensor<576x1536xf32>
    // After, where the largest |x| was 12.7
    %y = quern.linear %x, %w activations<int8> {static_scale = 1.0e-1 : f32}
        : tensor<?x1536xf32>, tensor<576x1536xf32>
    ```
  }];
  let options = [
    Option<"statistics", "statistics", "std::string", "", "File of `quern calibrate`">,
    Option<"clip", "clip", "double", "1", "What of the largest magnitude is kept, in (0, 1]">,
    Option<"keepBeyond", "keep-beyond", "bool", "false",
           "Set an outlier_threshold half a step beyond the range">,
    Option<"zeros", "zeros", "bool", "false",
           "Zero points where ranges lie to one side of 0, and the biases that take them back">,
    Option<"data", "data", "std::string", "",
           "With zeros: folder for changed biases; it must exist">,
    ListOption<"dynamic", "dynamic", "std::string",
               "Weights whose products keep the activations they have, as patterns: *.ffn_down.*">,
  ];
  let statistics = [Statistic<"folded", "folded", "Products with a static scale">,
                    Statistic<"shifted", "shifted", "Of those, products with a zero point">,
                    Statistic<"left", "left", "Products that keep what they have">];
  let dependentDialects = ["::quern::QuernDialect"];
}

def RotateInputsPass : MigrationPass<"quern-rotate-inputs", [
    Option<"block", "block", "int64_t", "4096", "Largest block">,
    Option<"opsOnly", "ops-only", "bool", "false",
           "The weights are rotated already: insert the ops alone">]> {
  let summary = "Rotate what gated activations give, while the program runs";
  let description = [{
    Puts a `quern.hadamard` between a gated activation and the products that read it, and multiplies
    their matrices by the same blocks: `(x H)(W H)ᵀ = x Wᵀ`. Outliers of a token are spread over a block, where
    activations in int8 keep them. The block is the largest that divides the channels and
    of which a Hadamard matrix is known: all 1536. Costs log2 additions a channel, and f - 1 more for a factor f.

    ```mlir
    // Before
    %h = quern.gated_activation<silu> %g, %u : tensor<?x1536xf32>
    %y = quern.linear %h, %down activations<int8> : tensor<?x1536xf32>, tensor<576x1536xf32>
    // After; @down holds W H
    %h = quern.gated_activation<silu> %g, %u : tensor<?x1536xf32>
    %r = quern.hadamard %h block = 1536 : tensor<?x1536xf32>
    %y = quern.linear %r, %down activations<int8> : tensor<?x1536xf32>, tensor<576x1536xf32>
    ```
  }];
  let statistics = [Statistic<"rotated", "rotated", "Inputs that are now rotated">,
                    Statistic<"refused", "refused", "Inputs that cannot be">];
}

def RotateCachePass : Pass<"quern-rotate-cache", "::mlir::ModuleOp"> {
  let summary = "Rotate queries, keys and values of every head, while the program runs";
  let description = [{
    Puts a `quern.hadamard` after the rotary embedding of queries and keys and in front of the values that
    attention stores, and another behind attention that undoes that of the values: scores
    are what they were. Outliers of a head are spread over its dimensions, where a cache of
    few bits keeps them. No weight changes.

    ```mlir
    // Before
    %o, %c = quern.attention %q, %k, %v, %cache, %positions, %sequences layer = 0 scale = 0.125
        : tensor<?x576xf32>, tensor<?x192xf32>, !quern.kv_cache<30x3x64xq4, context = 2048>, tensor<?xi32>
    // After
    %qh = quern.hadamard %q block = 64 : tensor<?x576xf32>
    %kh = quern.hadamard %k block = 64 : tensor<?x192xf32>
    %vh = quern.hadamard %v block = 64 : tensor<?x192xf32>
    %oh, %c = quern.attention %qh, %kh, %vh, %cache, %positions, %sequences layer = 0 scale = 0.125
        : tensor<?x576xf32>, tensor<?x192xf32>, !quern.kv_cache<30x3x64xq4, context = 2048>, tensor<?xi32>
    %o = quern.hadamard %oh block = 64 : tensor<?x576xf32>
    ```
  }];
  let statistics = [Statistic<"rotated", "rotated", "Attentions whose cache is now rotated">,
                    Statistic<"refused", "refused", "Attentions whose heads fit no block">];
  let dependentDialects = ["::quern::QuernDialect"];
}

def RotateStreamPass : MigrationPass<"quern-rotate-stream", [
    Option<"block", "block", "int64_t", "4096", "Largest block">,
    Option<"seed", "seed", "uint64_t", "1", "Of the random signs; 0: none">,
    Option<"opsOnly", "ops-only", "bool", "false",
           "The weights are rotated already: insert the ops alone">]> {
  let summary = "Rotate the residual stream, in the weights";
  let description = [{
    Replaces the residual stream x by x Q, Q being random signs and blocks of a Hadamard matrix: gains of
    norms move into the products behind them (a gain of 1 is left), whatever reads the stream gets
    W diag(gain) Q, whatever adds to it Qᵀ W, the embedding its rows times Q. Nothing is computed
    online but with a tied table: that keeps its rows (up to signs), a `quern.hadamard` follows
    the embedding, and another undoes the rotation before the final norm.

    Refused, as a whole and with a remark, where anything else touches the stream: a norm that adds to it
    (post-norm architectures), a layer norm, a matrix that others read.
  }];
  let statistics = [Statistic<"rotated", "rotated", "Matrices that were rotated">];
}

#endif // QUERN_QUANTIZE_MIGRATE_PASSES_TD
