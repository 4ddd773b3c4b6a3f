//===- Passes.td - Passes over model-level IR --------------*- tablegen -*-===//
//
// One def here is one file of lib/Dialect/Quern/Transforms and one test.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_TD
#define QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

class ActivationOption<string name, string value, string summary>
    : Option<name, name, "::quern::ActivationFormat", "::quern::ActivationFormat::" # value,
             summary, [{::llvm::cl::values(
             clEnumValN(::quern::ActivationFormat::Fast, "fast", "q8 or bf16, whichever is faster"),
             clEnumValN(::quern::ActivationFormat::F32, "f32", "32-bit floats"),
             clEnumValN(::quern::ActivationFormat::BF16, "bf16", "bfloat16"),
             clEnumValN(::quern::ActivationFormat::Q8, "q8", "int8 in groups of 32"),
             clEnumValN(::quern::ActivationFormat::Int8, "int8", "int8, one scale per token"),
             clEnumValN(::quern::ActivationFormat::Int4, "int4", "int4, one scale per token"),
             clEnumValN(::quern::ActivationFormat::Q4, "q4", "int4 in groups of 32"))}]>;

def SetActivationFormatsPass : Pass<"quern-set-activation-formats"> {
  let summary = "Choose how activations enter products";
  let description = [{
    Sets the activation format of every product with a stored matrix: `coded` for
    weights with a coded format, `plain` for weights stored as bare floats. It is the
    only choice by which a later phase may change results beyond rounding, so it is
    made here, once, where everybody can see it.

    ```mlir
    // Before
    %y = quern.linear %x, %w activations<fast> : tensor<?x32xf32>, tensor<8x32xf32, #quern.q4_0>
    // After --quern-set-activation-formats=coded=q8
    %y = quern.linear %x, %w activations<q8> : tensor<?x32xf32>, tensor<8x32xf32, #quern.q4_0>
    ```
  }];
  let options = [
    ActivationOption<"coded", "Fast", "Activations for weights with a coded format">,
    ActivationOption<"plain", "F32", "Activations for weights stored as bare floats">,
  ];
  let statistics = [Statistic<"changed", "changed", "Products whose activations changed">];
}

def HoistTakeRowsPass : Pass<"quern-hoist-take-rows", "::mlir::func::FuncOp"> {
  let summary = "Compute only the rows that are asked for";
  let description = [{
    Moves `quern.take_rows` above ops that treat every row by itself, as long as nobody
    needs their other rows. Of the last layer, only the outputs' rows are computed
    after its attention. Results are the same, bit for bit.

    ```mlir
    // Before
    %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
    %y = quern.take_rows %n, %outputs : tensor<?x32xf32>, tensor<?xi32>
    // After
    %t = quern.take_rows %x, %outputs : tensor<?x32xf32>, tensor<?xi32>
    %y = quern.rms_norm %t, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
    ```
  }];
  let statistics = [Statistic<"moved", "moved", "Ops that now compute fewer rows">];
}

def InsertObserversPass : Pass<"quern-insert-observers", "::mlir::ModuleOp"> {
  let summary = "Show the inputs of products to whoever runs the program";
  let description = [{
    Puts a `quern.observe` in front of the first product that reads a value, for all products
    that read it, and numbers the observers. What experts read has an observer of its own, behind one
    of the experts' ids. Run on the float model, a program compiled from the result hands its caller all that
    calibration needs; logits do not change.

    ```mlir
    // Before
    %g = quern.linear %x, %gate activations<f32> : ...
    %u = quern.linear %x, %up activations<f32> : ...
    // After
    quern.observe %x as 0 for ["ffn_gate.weight", "ffn_up.weight"] : tensor<?x576xf32>
    %g = quern.linear %x, %gate activations<f32> : ...
    %u = quern.linear %x, %up activations<f32> : ...
    ```
  }];
  let statistics = [Statistic<"inserted", "inserted", "Observers inserted">];
}

def InsertBoundariesPass : Pass<"quern-insert-boundaries", "::mlir::ModuleOp"> {
  let summary = "Mark where the program can be entered and left";
  let description = [{
    Puts a `quern.boundary` wherever one value of as many columns as the embedding is all that what
    follows needs of what went before, weights, cache and arguments aside, and where a product or a
    gather stands between it and the boundary before. In a transformer that is the residual stream,
    after the embedding, after attention and after the feed-forward part of each layer.

    ```mlir
    // Before
    %x = quern.add %r, %o : tensor<?x576xf32>
    %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x576xf32>, tensor<576xf32>
    // After
    %x = quern.add %r, %o : tensor<?x576xf32>
    quern.boundary %x as 3 : tensor<?x576xf32>
    %n = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x576xf32>, tensor<576xf32>
    ```
  }];
  let statistics = [Statistic<"inserted", "inserted", "Boundaries inserted">];
}

def VerifyModelPass : Pass<"quern-verify-model", "::mlir::ModuleOp"> {
  let summary = "Check that a module is a model that can be compiled";
  let description = [{
    Checks what the lowering relies on and no single op can know:

    - there is one function, `forward(tokens, positions, sequences, outputs, cache) ->
      (logits, cache)`, of one block that holds `quern` ops only;
    - every stored operand is a `quern.use`, and its weight has data: components of
      its own, or a view of a weight that has them;
    - token ids, positions, sequence slots and output rows are the function's own;
    - the cache passes through every layer's attention exactly once, and is returned.

    Changes nothing.
  }];
}

#endif // QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_TD
