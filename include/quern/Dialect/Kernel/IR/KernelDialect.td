//===- KernelDialect.td - The kernel level: dialect and attributes ----------===//
//
// The dialect itself and the small enumerations its operations carry.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_KERNELDIALECT
#define QUERN_DIALECT_KERNEL_IR_KERNELDIALECT

include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Kernel_Dialect : Dialect {
  let name = "quern_kernel";
  let cppNamespace = "::quern::kernel";
  let summary = "Tile operations over buffers, and the schedule that calls them";
  let description = [{
    The kernel level holds two things. *Kernel functions* are ordinary `func.func`s made of tile
    operations on statically shaped memrefs; the last three arguments of each are a range of
    work units `[begin, end)` and the number of tokens. A *schedule* is the program: a list of
    `launch`es that every thread of the pool executes, each thread for its share of the units,
    with `barrier`s between.

    Nothing here depends on a target: a tile operation says what is computed over which data,
    `quern-lower-kernels` decides with which instructions. Results never depend on how units
    are divided.
  }];
  let useDefaultAttributePrinterParser = 1;
}

class Kernel_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::quern::kernel";
  let genSpecializedAttr = 0;
}
class Kernel_EnumAttr<EnumInfo info, string mnemonic>
    : EnumAttr<Kernel_Dialect, info, mnemonic>;

def Kernel_Access : Kernel_Enum<"Access", "what a kernel does to a buffer", [
  I32EnumAttrCase<"Read", 0, "read">,             // any element, whatever the range
  I32EnumAttrCase<"ReadPart", 1, "read_part">,    // only what belongs to its units
  I32EnumAttrCase<"WritePart", 2, "write_part">,  // writes only what belongs to its units
  I32EnumAttrCase<"UpdatePart", 3, "update_part"> // reads and writes what belongs to its units
]>;
def Kernel_AccessAttr : Kernel_EnumAttr<Kernel_Access, "access">;

def Kernel_GateFunction : Kernel_Enum<"GateFunction", "a gate's non-linearity", [
  I32EnumAttrCase<"Silu", 0, "silu">,
  I32EnumAttrCase<"GeluTanh", 1, "gelu_tanh">,
  I32EnumAttrCase<"Gelu", 2, "gelu">
]>;
def Kernel_GateFunctionAttr : Kernel_EnumAttr<Kernel_GateFunction, "gate">;

def Kernel_Activation : Kernel_Enum<"Activation", "in what form a linear reads activations", [
  I32EnumAttrCase<"F32", 0, "f32">,
  I32EnumAttrCase<"BF16", 1, "bf16">,
  I32EnumAttrCase<"Q8", 2, "q8">,
  I32EnumAttrCase<"Int8", 3, "int8">
]>;
def Kernel_ActivationAttr : Kernel_EnumAttr<Kernel_Activation, "activation">;

def Kernel_Domain : Kernel_Enum<"Domain", "what the work units of a launch are", [
  I32EnumAttrCase<"Rows", 0, "rows">,     // tokens
  I32EnumAttrCase<"Panels", 1, "panels">, // 16 columns, of all tokens
  I32EnumAttrCase<"Heads", 2, "heads">,   // kv heads and what reads them, of all tokens
  I32EnumAttrCase<"Blocks", 3, "blocks">  // kv heads x blocks of tokens
]>;
def Kernel_DomainAttr : Kernel_EnumAttr<Kernel_Domain, "domain">;

def Kernel_StepArray : Kernel_Enum<"StepArray", "an array of the step", [
  I32EnumAttrCase<"Tokens", 0, "tokens">,
  I32EnumAttrCase<"Positions", 1, "positions">,
  I32EnumAttrCase<"Sequences", 2, "sequences">,
  I32EnumAttrCase<"Outputs", 3, "outputs">,
  I32EnumAttrCase<"Logits", 4, "logits">,
  I32EnumAttrCase<"Embeddings", 5, "embeddings">
]>;
def Kernel_StepArrayAttr : Kernel_EnumAttr<Kernel_StepArray, "step_array">;

def Kernel_StepCount : Kernel_Enum<"StepCount", "a count of the step", [
  I32EnumAttrCase<"Tokens", 0, "tokens">,
  I32EnumAttrCase<"Outputs", 1, "outputs">
]>;
def Kernel_StepCountAttr : Kernel_EnumAttr<Kernel_StepCount, "step_count">;

#endif
