//===- ScheduleOps.td - A static program of kernel launches -----------------===//
//
// What every thread of the pool executes for one step: launches, barriers, and
// the buffers they work on.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_SCHEDULEOPS
#define QUERN_DIALECT_KERNEL_IR_SCHEDULEOPS

include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "quern/Dialect/Kernel/IR/KernelDialect.td"

class Kernel_Op<string mnemonic, list<Trait> traits = []>
    : Op<Kernel_Dialect, mnemonic, traits>;

def Kernel_ScheduleOp : Kernel_Op<"schedule",
    [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator, NoRegionArguments]> {
  let summary = "the launches that make one step of a program";
  let description = [{
    Every thread executes the whole body. `max_tokens` is the largest number of tokens a step
    may have; a program may have several schedules, and a step runs the first one that is
    large enough. `scratch_bytes` and `private_bytes` (a thread's own part) are set by
    `quern-plan-buffers`.

    ```mlir
    quern_kernel.schedule @step max_tokens 512 {
      %n = quern_kernel.step_count tokens
      %x = quern_kernel.buffer : memref<512x64xf32>
      quern_kernel.launch @scale(%x) over rows %n tokens %n : memref<512x64xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$max_tokens,
                       OptionalAttr<I64Attr>:$scratch_bytes,
                       OptionalAttr<I64Attr>:$private_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `max_tokens` $max_tokens attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
}

def Kernel_BufferOp : Kernel_Op<"buffer"> {
  let summary = "working memory of a step";
  let description = [{
    `private`: each thread has its own copy. `quern-plan-buffers` gives each buffer an offset;
    buffers that are not live at the same time share memory.
  }];
  let arguments = (ins UnitAttr:$is_private, OptionalAttr<I64Attr>:$offset);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat = "(`private` $is_private^)? (`at` $offset^)? attr-dict `:` type($result)";
}

def Kernel_WeightOp : Kernel_Op<"weight", [Pure]> {
  let summary = "a packed weight, from the program's table of weights";
  let arguments = (ins I64Attr:$index, StrAttr:$name, DefaultValuedAttr<I64Attr, "0">:$byte_offset);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat = "$index $name attr-dict `:` type($result)";
}

def Kernel_CacheOp : Kernel_Op<"cache", [Pure]> {
  let summary = "a part of the KV cache, one row per sequence slot";
  let description = [{
    The memref's first dimension counts slots (its extent is only a bound: the number of slots
    is chosen at run time); a row spans the whole slot, and the data of this part start
    `byte_offset` bytes into it.
  }];
  let arguments = (ins I64Attr:$byte_offset);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat = "`at` $byte_offset attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Kernel_StepArrayOp : Kernel_Op<"step_array", [Pure]> {
  let summary = "an input or output array of the step";
  let arguments = (ins Kernel_StepArrayAttr:$array);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat = "`` $array attr-dict `:` type($result)";
}

def Kernel_StepCountOp : Kernel_Op<"step_count", [Pure]> {
  let summary = "how many tokens, or wanted outputs, the step has";
  let arguments = (ins Kernel_StepCountAttr:$count);
  let results = (outs Index:$result);
  let assemblyFormat = "`` $count attr-dict";
}

def Kernel_UnitsOp : Kernel_Op<"units", [Pure]> {
  let summary = "ceil(count / block) * scale, or scale: the work units of a launch";
  let arguments = (ins Optional<Index>:$count, DefaultValuedAttr<I64Attr, "1">:$block,
                       I64Attr:$scale);
  let results = (outs Index:$result);
  let assemblyFormat = "$scale (`per` $block `of` $count^)? attr-dict";
}

def Kernel_LaunchOp : Kernel_Op<"launch", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "calls a kernel, the threads sharing its units";
  let description = [{
    Thread t of n calls the kernel with the range [units*t/n, units*(t+1)/n). A `replicated`
    launch gives every thread all units: small work repeated into private buffers is cheaper
    than a barrier. How the kernel uses each buffer is an attribute of its arguments
    (`quern_kernel.access`), from which `quern-insert-barriers` finds the hazards.
    A launch on an absent optional output (embeddings) is skipped at run time.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<AnyStaticShapeMemRef>:$buffers,
                       Kernel_DomainAttr:$domain, Index:$units, Index:$tokens,
                       UnitAttr:$replicated);
  let assemblyFormat = [{
    $kernel `(` $buffers `)` `over` `` $domain $units `tokens` $tokens (`replicated` $replicated^)?
    attr-dict (`:` type($buffers)^)?
  }];
  let extraClassDeclaration = [{
    /// How the kernel uses buffer `i`; unset if the kernel does not say, or is lowered already.
    std::optional<Access> accessOf(unsigned i, ::mlir::SymbolTable &symbols);
  }];
}

def Kernel_ObserveOp : Kernel_Op<"observe"> {
  let summary = "shows a buffer to the program's caller";
  let description = [{
    Every thread calls the step's observer, if it has one, with the observer's number, the
    buffer's first `count` rows and its own number, so that the caller can share the work. A
    buffer with more dimensions than two has several rows a token. Expert ids are i32, passed as if
    they were floats. Barriers before and after keep the buffer as it is meanwhile.
  }];
  let arguments = (ins AnyStaticShapeMemRef:$buffer, I64Attr:$index, Index:$count);
  let assemblyFormat = "$buffer `as` $index `rows` $count attr-dict `:` type($buffer)";
}

def Kernel_BoundaryOp : Kernel_Op<"boundary"> {
  let summary = "lets the program's caller replace a buffer and skip what follows";
  let description = [{
    Every thread calls the step's boundary function, if it has one, with the boundary's number and
    the buffer's first `count` rows; where that returns zero, everything up to the next boundary,
    or the end, is skipped. Barriers before and after order what it does with launches.
  }];
  let arguments = (ins AnyStaticShapeMemRef:$buffer, I64Attr:$index, Index:$count);
  let assemblyFormat = "$buffer `as` $index `rows` $count attr-dict `:` type($buffer)";
}

def Kernel_BarrierOp : Kernel_Op<"barrier"> {
  let summary = "all threads wait for each other";
  let assemblyFormat = "attr-dict";
}

#endif
