//===- EmulateX86.cpp - AVX-512 intrinsics as generic vector code ---------===//
//
// Vectors of 512 bits need no help: LLVM splits them. Only named instructions are rewritten.
//
//===----------------------------------------------------------------------===//
#include "EmulateX86.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>
#include <sys/syscall.h>
#include <unistd.h>

using namespace llvm;
using namespace quern;

std::vector<target::TargetInfo> test::x86Targets() {
  std::vector<target::TargetInfo> found;
  if (!target::hostCanRun(cantFail(target::lookup("x86-64-v3"))))
    return found;
  for (const target::TargetInfo &target : target::knownTargets())
    if (target.isX86())
      found.push_back(target);
  return found;
}

/// QUERN_TEST_EMULATE set: only the base target, so that emulation is tested on any host.
static bool runsNatively(const target::TargetInfo &target) {
  return target::hostCanRun(target) &&
         (target.name == "x86-64-v3" || !std::getenv("QUERN_TEST_EMULATE"));
}

bool test::needsEmulation(const target::TargetInfo &target) {
  bool native = runsNatively(target);
  static std::set<std::string> said;
  if (said.insert(target.name).second)
    std::printf("[ target   ] %s: %s\n", target.name.c_str(), native ? "native" : "emulated");
  return !native;
}

void test::requestTiles(const target::TargetInfo &target) {
  constexpr long requestPermission = 0x1023, tileData = 18;
  if ((target.amxInt8 || target.amxBf16) && !needsEmulation(target) &&
      syscall(SYS_arch_prctl, requestPermission, tileData) != 0)
    report_fatal_error("the system refuses tile registers");
}

target::TargetInfo test::executionTarget(const target::TargetInfo &target) {
  return runsNatively(target) ? target : cantFail(target::lookup("x86-64-v3"));
}

namespace {
/// What replaces one call.
class Rewriter {
public:
  explicit Rewriter(CallInst &call) : call(call), b(&call) {}

  /// The replacement's value (null for calls without one); nothing for an unknown intrinsic.
  std::optional<Value *> run(StringRef name) {
    auto a = [&](unsigned i) { return call.getArgOperand(i); };
    if (name.consume_front("avx512.")) {
      if (name == "vpdpbusd.512" || name == "vpdpbusd.256")
        return dotBytes(a(0), a(1), a(2));
      if (name == "pshuf.b.512")
        return halves(a(0), a(1), "llvm.x86.avx2.pshuf.b");
      if (name == "pmaddw.d.512")
        return dotWords(a(0), a(1));
      if (name == "permvar.sf.512")
        return permute(a(0), a(1));
      return std::nullopt;
    }
    if (name.starts_with("tile") || name.starts_with("tdp") || name == "ldtilecfg")
      return tileCall(name);
    return std::nullopt;
  }

private:
  /// acc[i] + sum over j < 4 of unsigned a[4 i + j] * signed c[4 i + j]
  Value *dotBytes(Value *acc, Value *a, Value *c) {
    unsigned lanes = cast<FixedVectorType>(acc->getType())->getNumElements();
    auto *wide = FixedVectorType::get(b.getInt32Ty(), 4 * lanes);
    Value *products = b.CreateMul(b.CreateZExt(a, wide), b.CreateSExt(c, wide));
    for (unsigned j = 0; j < 4; ++j) {
      SmallVector<int> every4th;
      for (unsigned i = 0; i < lanes; ++i)
        every4th.push_back(4 * i + j);
      acc = b.CreateAdd(acc, b.CreateShuffleVector(products, every4th));
    }
    return acc;
  }

  Value *half(Value *v, bool upper) {
    unsigned count = cast<FixedVectorType>(v->getType())->getNumElements() / 2;
    SmallVector<int> lanes;
    for (unsigned i = 0; i < count; ++i)
      lanes.push_back(upper * count + i);
    return b.CreateShuffleVector(v, lanes);
  }
  Value *join(Value *low, Value *high) {
    unsigned count = cast<FixedVectorType>(low->getType())->getNumElements();
    SmallVector<int> lanes;
    for (unsigned i = 0; i < 2 * count; ++i)
      lanes.push_back(i);
    return b.CreateShuffleVector(low, high, lanes);
  }
  Value *callOn(StringRef intrinsic, ArrayRef<Value *> operands) {
    SmallVector<Type *> types;
    for (Value *v : operands)
      types.push_back(v->getType());
    auto *type = FunctionType::get(operands[0]->getType(), types, false);
    return b.CreateCall(call.getModule()->getOrInsertFunction(intrinsic, type), operands);
  }
  /// Sum over j < 2 of a[2 i + j] * c[2 i + j], signed words.
  Value *dotWords(Value *a, Value *c) {
    unsigned words = cast<FixedVectorType>(a->getType())->getNumElements();
    auto *wide = FixedVectorType::get(b.getInt32Ty(), words);
    Value *products = b.CreateMul(b.CreateSExt(a, wide), b.CreateSExt(c, wide));
    SmallVector<int> even, odd;
    for (unsigned i = 0; i < words; i += 2) {
      even.push_back(int(i));
      odd.push_back(int(i) + 1);
    }
    return b.CreateAdd(b.CreateShuffleVector(products, even), b.CreateShuffleVector(products, odd));
  }
  /// An instruction that works within 128-bit lanes, on both halves.
  Value *halves(Value *a, Value *c, StringRef intrinsic) {
    return join(callOn(intrinsic, {half(a, false), half(c, false)}),
                callOn(intrinsic, {half(a, true), half(c, true)}));
  }
  /// table[index % 16] for each of 16 floats.
  Value *permute(Value *table, Value *index) {
    Value *result[2];
    for (bool upper : {false, true}) {
      Value *indices = half(index, upper);
      Value *eight = b.CreateVectorSplat(8, b.getInt32(8));
      Value *isHigh =
          b.CreateICmpNE(b.CreateAnd(indices, eight), Constant::getNullValue(indices->getType()));
      auto from = [&](bool high) {
        return callOn("llvm.x86.avx2.permps", {half(table, high), indices});
      };
      result[upper] = b.CreateSelect(isHigh, from(true), from(false));
    }
    return join(result[0], result[1]);
  }

  /// Tiles live outside: see TileUnit. Tile numbers are passed as 32 bits.
  Value *tileCall(StringRef name) {
    SmallVector<Value *> operands;
    SmallVector<Type *> types;
    for (Value *operand : call.args()) {
      operands.push_back(operand->getType()->isIntegerTy(8) ? b.CreateZExt(operand, b.getInt32Ty())
                                                            : operand);
      types.push_back(operands.back()->getType());
    }
    auto *type = FunctionType::get(b.getVoidTy(), types, false);
    b.CreateCall(call.getModule()->getOrInsertFunction(("emulated_" + name).str(), type), operands);
    return nullptr;
  }

  CallInst &call;
  IRBuilder<> b;
};
} // namespace

Error test::emulateOnV3(Module &module) {
  SmallVector<Function *> declarations;
  for (Function &f : module) {
    if (f.isDeclaration()) {
      declarations.push_back(&f);
      continue;
    }
    for (StringRef attribute : {"target-cpu", "tune-cpu", "target-features", "prefer-vector-width",
                                "min-legal-vector-width"})
      f.removeFnAttr(attribute);
  }
  for (Function *f : declarations) {
    StringRef name = f->getName();
    if (!name.consume_front("llvm.x86.") || name.starts_with("avx2.") || name.starts_with("sse"))
      continue;
    for (User *user : make_early_inc_range(f->users())) {
      auto *call = cast<CallInst>(user);
      std::optional<Value *> result = Rewriter(*call).run(name);
      if (!result)
        return createStringError("no emulation of llvm.x86." + name);
      if (*result)
        call->replaceAllUsesWith(*result);
      call->eraseFromParent();
    }
    f->eraseFromParent();
  }
  std::string text;
  raw_string_ostream os(text);
  if (verifyModule(module, &os))
    return createStringError("the emulated module is invalid: " + text);
  return Error::success();
}
