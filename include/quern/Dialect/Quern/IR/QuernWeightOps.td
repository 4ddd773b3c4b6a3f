//===- QuernWeightOps.td - Files, weights, their use -------*- tablegen -*-===//
//
// The ops that name stored data. The data itself stays in its files.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNWEIGHTOPS_TD
#define QUERN_DIALECT_QUERN_IR_QUERNWEIGHTOPS_TD

include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "quern/Dialect/Quern/IR/QuernInterfaces.td"
include "quern/Dialect/Quern/IR/QuernTypes.td"

class Quern_Op<string mnemonic, list<Trait> traits = []>
    : Op<Quern_Dialect, mnemonic, traits>;

def Quern_FileOp : Quern_Op<"file", [Symbol, HasParent<"::mlir::ModuleOp">]> {
  let summary = "a file that weights lie in";
  let description = [{
    Names a file by path and size; a reader checks the size (and the BLAKE3 hash
    where given) before it trusts an offset.

    ```mlir
    quern.file @model path "model.gguf" size 386404992
    ```
  }];
  let arguments = (ins
    SymbolNameAttr:$sym_name,
    StrAttr:$path,
    I64Attr:$size,
    OptionalAttr<StrAttr>:$hash
  );
  let assemblyFormat = [{
    $sym_name `path` $path `size` $size (`hash` $hash^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Quern_WeightOp : Quern_Op<"weight", [
    Symbol, HasParent<"::mlir::ModuleOp">, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<Quern_StoredSizeOpInterface>]> {
  let summary = "a stored tensor";
  let description = [{
    A named tensor: its shape, its format, and the byte ranges that hold it. Ops get
    it with `quern.use`; a weight used twice (a tied embedding) is stored once.

    ```mlir
    quern.weight @output.weight : tensor<49152x576xf32, #quern.q8_0>
        layout<gguf> from [data @model at 4096 size 30081024]
    ```

    A *view* is a run of rows of another weight, stored with it: the parts of a
    fused projection, or a shard. `rows` is its first row; row groups of the format
    may not be cut.

    ```mlir
    quern.weight @blk.0.attn_k.weight : tensor<192x576xf32, #quern.q4_K>
        view of @blk.0.attn_qkv.weight rows 576
    ```
  }];
  let arguments = (ins
    SymbolNameAttr:$sym_name,
    TypeAttrOf<Quern_StoredTensor>:$type,
    OptionalAttr<Quern_LayoutAttr>:$layout,
    OptionalAttr<TypedArrayAttrBase<Quern_ComponentAttr, "components">>:$components,
    OptionalAttr<FlatSymbolRefAttr>:$source,
    OptionalAttr<I64Attr>:$row_begin
  );
  let assemblyFormat = [{
    $sym_name `:` $type (`layout` `` $layout^)?
    (`from` custom<Components>($components)^)?
    (`view` `of` $source^ `rows` $row_begin)? attr-dict
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
    bool isView() { return getSource().has_value(); }
  }];
}

def Quern_UseOp : Quern_Op<"use", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "the value of a weight";
  let description = [{
    ```mlir
    %w = quern.use @output.weight : tensor<49152x576xf32, #quern.q8_0>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight);
  let results = (outs Quern_StoredTensor:$result);
  let assemblyFormat = "$weight attr-dict `:` type($result)";
}

#endif // QUERN_DIALECT_QUERN_IR_QUERNWEIGHTOPS_TD
