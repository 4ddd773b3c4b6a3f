//===- QuernTypes.td - The key-value cache -----------------*- tablegen -*-===//
//
// Types of the model-level dialect, and the tensor constraints its ops share.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNTYPES_TD
#define QUERN_DIALECT_QUERN_IR_QUERNTYPES_TD

include "mlir/IR/CommonTypeConstraints.td"
include "quern/Dialect/Quern/IR/QuernAttributes.td"

def Quern_CacheElement : Quern_I32Enum<"CacheElement", "how cached keys and values are stored", [
  I32EnumAttrCase<"F32", 0, "f32">,
  I32EnumAttrCase<"F16", 1, "f16">,
  I32EnumAttrCase<"Q8_0", 2, "q8_0">,
  I32EnumAttrCase<"Q4", 3, "q4">,
]>;

def Quern_KvCacheType : TypeDef<Quern_Dialect, "KvCache"> {
  let mnemonic = "kv_cache";
  let summary = "the keys and values of every sequence, layer by layer";
  let description = [{
    For each sequence slot: `layers x kv_heads x context` keys and as many values, of
    `head_dim` numbers each, stored as `f32`, `f16`, `q8_0` (int8 in groups of 32
    with an f16 scale) or `q4` (codes from -7 to 7, an f16 scale for each head). How many slots there are is decided when the program starts.

    ```mlir
    !quern.kv_cache<30x3x64xf16, context = 2048>  // 30 layers, 3 heads of 64
    ```
  }];
  let parameters = (ins
    "int64_t":$layers, "int64_t":$kvHeads, "int64_t":$headDim,
    EnumParameter<Quern_CacheElement>:$element, "int64_t":$contextLength
  );
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Bytes of one key (or value) of one head.
    int64_t getHeadBytes();
    /// Bytes of one sequence slot.
    int64_t getSlotBytes();
  }];
}

//===----------------------------------------------------------------------===//
// Constraints
//===----------------------------------------------------------------------===//

// Activations: plain f32, the first dimension counts tokens.
def Quern_IsPlainTensor
    : CPred<"!::llvm::cast<::mlir::RankedTensorType>($_self).getEncoding()">;
def Quern_Rows : ConfinedType<RankedTensorOf<[F32]>, [Quern_IsPlainTensor,
      CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getRank() == 2">],
    "f32 activations [tokens, features]", "::mlir::RankedTensorType">;
def Quern_Slices : ConfinedType<RankedTensorOf<[F32]>, [Quern_IsPlainTensor,
      CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getRank() == 3">],
    "f32 activations [tokens, experts, features]", "::mlir::RankedTensorType">;
def Quern_RowsOrSlices : ConfinedType<RankedTensorOf<[F32]>, [Quern_IsPlainTensor,
      CPred<"::llvm::is_contained({2, 3}, ::llvm::cast<::mlir::RankedTensorType>($_self).getRank())">],
    "f32 activations [tokens, features] or [tokens, experts, features]",
    "::mlir::RankedTensorType">;
def Quern_Indices : ConfinedType<RankedTensorOf<[I32]>, [Quern_IsPlainTensor,
      CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getRank() == 1">],
    "i32 numbers, one per token", "::mlir::RankedTensorType">;
def Quern_ExpertIds : ConfinedType<RankedTensorOf<[I32]>, [Quern_IsPlainTensor,
      CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getRank() == 2">],
    "i32 expert ids [tokens, chosen]", "::mlir::RankedTensorType">;

// Stored tensors: logically f32, static, with a format as encoding (none: plain f32).
class Quern_Stored<string rank, string summary> : ConfinedType<RankedTensorOf<[F32]>, [
      CPred<"::quern::isStoredTensor($_self)">,
      CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getRank()" # rank>],
    summary, "::mlir::RankedTensorType">;
def Quern_StoredVector : Quern_Stored<" == 1", "a stored vector [K]">;
def Quern_StoredMatrix : Quern_Stored<" == 2", "a stored matrix [N, K]">;
def Quern_StoredStack : Quern_Stored<" == 3", "a stored stack of matrices [E, N, K]">;
def Quern_StoredTensor : Quern_Stored<" > 0", "a stored tensor of static shape">;

#endif // QUERN_DIALECT_QUERN_IR_QUERNTYPES_TD
