//===- QuernInterfaces.td - What passes ask of any op ------*- tablegen -*-===//
//
// Op interfaces, so that a pass over stored tensors needs no list of ops.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNINTERFACES_TD
#define QUERN_DIALECT_QUERN_IR_QUERNINTERFACES_TD

include "mlir/IR/OpBase.td"

def Quern_StoredSizeOpInterface : OpInterface<"StoredSizeOpInterface"> {
  let cppNamespace = "::quern";
  let description = [{
    An op that owns stored bytes: a weight (but not a view of one).
  }];
  let methods = [
    InterfaceMethod<[{
      The bytes that the op stores, exactly. A view stores none of its own.
    }], "uint64_t", "getStoredBytes">,
  ];
}

def Quern_WeightedOpInterface : OpInterface<"WeightedOpInterface"> {
  let cppNamespace = "::quern";
  let description = [{
    An op that multiplies activations with a stored matrix `[..., N, K]`. Passes
    that choose formats or activations go through this interface, whatever the op.
  }];
  let methods = [
    InterfaceMethod<"The operand with the stored matrix.",
                    "::mlir::OpOperand &", "getWeightOperand">,
    InterfaceMethod<"The operand with the activations, `[..., K]`.",
                    "::mlir::OpOperand &", "getInputOperand">,
    InterfaceMethod<"How activations are stored for the product.",
                    "::quern::ActivationFormat", "getActivations">,
    InterfaceMethod<"Chooses how activations are stored for the product.",
                    "void", "setActivations", (ins "::quern::ActivationFormat":$format)>,
  ];
}

#endif // QUERN_DIALECT_QUERN_IR_QUERNINTERFACES_TD
