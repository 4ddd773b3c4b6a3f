//===- Passes.td - Sensitivity, allocation, solver ---------*- tablegen -*-===//
//
// What `quern quantize` does to a model file, as passes over model-level IR, for any scalar format of
// the algebra: each can be run alone, and what one hands on to the next stands in the IR.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_PASSES_PASSES_TD
#define QUERN_QUANTIZE_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

/// What every pass that rounds weights asks for.
class RoundingPass<string name, list<Option> more> : Pass<name, "::mlir::ModuleOp"> {
  let options = !listconcat(more, [
    Option<"statistics", "statistics", "std::string", "",
           "File of `quern calibrate`; without it all columns count the same">,
    Option<"solver", "solver", "std::string", "\"descent\"",
           "descent, feedback, search, nearest, nearest-descent or search-descent">,
    Option<"damping", "damping", "double", "::quern::quantize::defaultDamping",
           "Share of its own that is added to each number of the Hessian's diagonal">,
  ]);
  let dependentDialects = ["::quern::QuernDialect"];
}

def EstimateLossesPass : RoundingPass<"quern-estimate-losses", [
    ListOption<"formats", "formats", "std::string",
               "Names of the formats to choose from (q3_K, q4_K, q6_K)">,
    Option<"provider", "provider", "std::string", "\"hessian\"",
           "hessian, trace, eigenvalue or column; with tokens also measured or hutchinson">,
    ListOption<"tokens", "tokens", "int32_t",
               "A sequence to measure divergences on, by the reference interpreter: for small models">,
    Option<"data", "data", "std::string", "",
           "With tokens: folder for weights that are tried; it must exist">]> {
  let summary = "Say what each weight would lose in each format";
  let description = [{
    Rounds every float matrix to each of the formats and asks a sensitivity provider what that
    costs the model. A stack of experts' matrices has one format; each of them is rounded for what enters
    it, and its error counts as often as tokens go to it. The answer stays on the weight, for `quern-allocate` or whoever else chooses.
    A format whose tiles do not divide the rows is padded: a remark says so and what that costs.

    ```mlir
    // Before
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
    // After: quern-estimate-losses{formats=q4_K,q6_K}
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
        {quern.choices = [ {bytes = 73728 : i64, format = #quern.q4_K, loss = 0.02 : f64},
                          {bytes = 107520 : i64, format = #quern.q6_K, loss = 0.001 : f64} ]}
    ```
  }];
  let statistics = [Statistic<"estimated", "estimated", "Weights with choices">,
                    Statistic<"left", "left", "Weights of two or more dimensions without">];
}

def AllocatePass : Pass<"quern-allocate", "::mlir::ModuleOp"> {
  let summary = "Choose a format for each weight within a budget";
  let description = [{
    Chooses one of every weight's choices (`quern-estimate-losses`) so that their losses add up to
    little and their bytes stay within the budget. Or takes the choice from a file of
    `quern allocate`. A remark says what the choice takes and loses, and in ratio to one format
    for all.

    ```mlir
    // After quern-allocate{bits=4.6}
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
        {quern.choices = [...], quern.chosen_format = #quern.q4_K}
    ```
  }];
  let options = [
    Option<"bytes", "bytes", "uint64_t", "0", "Stored bytes of all weights with choices, at most">,
    Option<"bits", "bits", "double", "0", "Or stored bits a weight of them, at most">,
    Option<"engine", "engine", "std::string", "\"knapsack\"",
           "knapsack, greedy, uniform, baq or ilp">,
    Option<"file", "file", "std::string", "", "Or a file of `quern allocate`">,
    Option<"output", "output", "std::string", "",
           "Write the choice as such a file; an existing one is replaced">,
  ];
  let dependentDialects = ["::quern::QuernDialect"];
  let statistics = [Statistic<"chosen", "chosen", "Weights that have a chosen format">];
}

def SplitColumnsPass : Pass<"quern-split-columns", "::mlir::ModuleOp"> {
  let summary = "Choose a format of many bits for outlier channels, of few for the others (LLM.int8())";
  let description = [{
    Channels of what enters a product whose largest magnitude in the statistics reaches `threshold` (or the
    `share` of largest ones) are outliers, filled up to a multiple of 32 with the next largest. The columns
    of the matrix that read them get the format `outliers`, the others `rest`: the weight is marked with that
    column split and the columns' numbers. A matrix without outliers gets `rest` as a whole, one with nothing else
    `outliers`. Products with int8 (int4) activations then round the other channels alone, with a scale
    of their own for each token, and take the outliers in f32. Matrices that others than products read are
    left with a remark.

    ```mlir
    // Before
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
    // After
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
        {quern.chosen_format = #quern.format<split<outliers 32: f16, rest: i8, scale f32[1x*]>>,
         quern.split_columns = array<i32: 3, 9, ...>}
    ```
  }];
  let options = [
    Option<"statistics", "statistics", "std::string", "", "File of `quern calibrate`">,
    Option<"threshold", "threshold", "double", "6", "Magnitude from which a channel is an outlier">,
    Option<"share", "share", "double", "0", "Or the share of channels that are, by magnitude">,
    Option<"outliers", "outliers", "std::string", "\"f16\"", "Format of outlier columns">,
    Option<"rest", "rest", "std::string", "\"int8_channel\"", "Format of the others">,
  ];
  let dependentDialects = ["::quern::QuernDialect"];
  let statistics = [Statistic<"split", "split", "Matrices with outlier columns">,
                    Statistic<"plain", "plain", "Matrices of one format">,
                    Statistic<"left", "left", "Matrices that were not looked at">];
}

def QuantizeWeightsPass : RoundingPass<"quern-quantize-weights", [
    Option<"format", "format", "std::string", "",
           "For float matrices that no format was chosen for; they stay as they are without">,
    Option<"activations", "activations", "std::string", "\"fast\"",
           "How activations enter products with rounded weights: fast, f32, bf16, q8, int8, q4 or int4">,
    Option<"correctBiases", "correct-biases", "bool", "false",
           "Give products a bias that takes back the mean error of their results">,
    Option<"data", "data", "std::string", "", "Folder for the rounded weights; it must exist">]> {
  let summary = "Round weights to the formats chosen for them";
  let description = [{
    Rounds every weight that has a chosen format with a solver that uses what calibration saw, and
    makes the module name the new data. Products with such a weight take `activations`,
    except where a static scale says int8. Of a column split the last set is solved with what H leaves once the
    other sets take up its error, and these are rounded from where that puts them.

    With `correct-biases`, E[x] (W - W')ᵀ is added to the bias of the products, E[x] being the mean of the
    statistics; a product without one gets one. A model file whose architecture has no such bias cannot
    keep it; programs and IR can. A remark says where others share the bias, which then stays.

    ```mlir
    // Before
    quern.weight @w : tensor<512x256xf32> layout<canonical> from [data @f at 0 size 524288]
        {quern.chosen_format = #quern.q4_K}
    // After
    quern.weight @w : tensor<512x256xf32, #quern.q4_K> layout<gguf>
        from [data @w.coded at 0 size 73728]
    ```
  }];
  let statistics = [Statistic<"rounded", "rounded", "Weights that were rounded">,
                    Statistic<"corrected", "corrected", "Products with a corrected bias">];
}

#endif // QUERN_QUANTIZE_PASSES_PASSES_TD
