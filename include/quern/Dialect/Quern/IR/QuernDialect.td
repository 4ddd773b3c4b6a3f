//===- QuernDialect.td - The model-level dialect -----------*- tablegen -*-===//
//
// Defines the `quern` dialect itself.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNDIALECT_TD
#define QUERN_DIALECT_QUERN_IR_QUERNDIALECT_TD

include "mlir/IR/OpBase.td"

def Quern_Dialect : Dialect {
  let name = "quern";
  let cppNamespace = "::quern";
  let summary = "Trained models, with how their numbers are stored as attributes";
  let description = [{
    The `quern` dialect holds a trained model the way its author thinks of it:
    linear layers, norms, attention over a typed key-value cache. Every tensor is
    logically real (`f32`); how its numbers are stored is a *format*, the encoding
    of its ordinary tensor type, from which the compiler derives sizes, decoders and
    kernels.

    ```mlir
    quern.file @model path "model.gguf" size 386404992

    quern.weight @blk.0.attn_q.weight : tensor<576x576xf32, #quern.q4_K>
        layout<gguf> from [data @model at 41298944 size 186624]

    func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>,
                       %sequences: tensor<?xi32>, %outputs: tensor<?xi32>,
                       %cache: !quern.kv_cache<30x3x64xf16, context = 2048>)
        -> (tensor<?x49152xf32>, !quern.kv_cache<30x3x64xf16, context = 2048>)
    ```

    Weights are module-level symbols whose bytes stay in their files: the IR holds
    the file, offset and size of each component, never the data. Ops are pure and
    value-semantic; the cache is a value too.

    Each token carries its own position and sequence slot, so that one function
    serves prefill, decode and batches of both.

    Two discardable attributes of the module describe the model as a whole:
    `quern.model`, a dictionary of its hyper-parameters, and whatever the tools
    recorded about its making.
  }];

  let dependentDialects = ["::mlir::func::FuncDialect"];
  let useDefaultAttributePrinterParser = 0;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = [{
    /// The module attribute with the model's hyper-parameters.
    static constexpr ::llvm::StringLiteral kModelAttr = "quern.model";
    /// The module attribute, a string, with the passes that ran over the model: it computes
    /// something else than the file it came from says.
    static constexpr ::llvm::StringLiteral kPassesAttr = "quern.passes";
    /// On a weight without components, the symbol of the weight that it is to be encoded from, in
    /// its own format, once its bytes are needed.
    static constexpr ::llvm::StringLiteral kEncodedFromAttr = "quern.encoded_from";

    /// Registers the attributes, types and ops; called by initialize().
    void registerAttributes();
    void registerTypes();

    ::mlir::Attribute parseAttribute(::mlir::DialectAsmParser &parser,
                                     ::mlir::Type type) const override;
    void printAttribute(::mlir::Attribute attr,
                        ::mlir::DialectAsmPrinter &printer) const override;
  }];
}

#endif // QUERN_DIALECT_QUERN_IR_QUERNDIALECT_TD
