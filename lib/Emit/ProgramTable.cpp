//===- ProgramTable.cpp - Builds quern_program_v1 as LLVM IR --------------===//
//
// Mirrors the structs of runtime/Program.h field by field; the static_asserts fail
// when one side changes alone.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/ProgramTable.h"
#include "quern/Runtime/Program.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/DerivedTypes.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"

using namespace llvm;

namespace quern::emit {

static_assert(sizeof(quern_target) == 24 && sizeof(quern_weight) == 24 &&
                  sizeof(quern_program) == 72 && offsetof(quern_program, cache_bytes) == 48,
              "buildProgramTable mirrors these structs");

std::string forwardSymbol(StringRef targetName) {
  std::string symbol = "quern_forward_" + targetName.str();
  for (char &c : symbol)
    if (!isAlnum(c))
      c = '_';
  return symbol;
}

std::unique_ptr<Module> buildProgramTable(LLVMContext &context, const ProgramTable &table,
                                          bool withMain) {
  auto module = std::make_unique<Module>("quern_program", context);
  Type *i32 = Type::getInt32Ty(context), *i64 = Type::getInt64Ty(context);
  PointerType *ptr = PointerType::getUnqual(context);
  auto int32 = [&](uint32_t v) -> Constant * { return ConstantInt::get(i32, v); };
  auto int64 = [&](uint64_t v) -> Constant * { return ConstantInt::get(i64, v); };
  auto text = [&](StringRef s) -> Constant * {
    Constant *data = ConstantDataArray::getString(context, s);
    auto *global = new GlobalVariable(*module, data->getType(), true, GlobalValue::PrivateLinkage,
                                      data, "text");
    global->setUnnamedAddr(GlobalValue::UnnamedAddr::Global);
    return global;
  };
  auto array = [&](StructType *type, ArrayRef<Constant *> rows, StringRef name) -> Constant * {
    auto *arrayType = ArrayType::get(type, rows.size());
    return new GlobalVariable(*module, arrayType, true, GlobalValue::PrivateLinkage,
                              ConstantArray::get(arrayType, rows), name);
  };

  auto *forwardType = FunctionType::get(Type::getVoidTy(context), {ptr, i32, i32}, false);
  auto *targetType = StructType::get(context, {ptr, ptr, ptr});
  SmallVector<Constant *> targets;
  for (const ProgramTable::Target &t : table.targets) {
    auto *forward = cast<Constant>(module->getOrInsertFunction(t.forward, forwardType).getCallee());
    targets.push_back(ConstantStruct::get(targetType, {text(t.name), text(t.features), forward}));
  }
  auto *weightType = StructType::get(context, {ptr, i64, i64});
  SmallVector<Constant *> weights;
  for (const ProgramTable::Weight &w : table.weights)
    weights.push_back(
        ConstantStruct::get(weightType, {text(w.name), int64(w.offset), int64(w.size)}));

  Constant *fields[] = {int32(QUERN_ABI_VERSION),
                        int32(targets.size()),
                        array(targetType, targets, "targets"),
                        int32(weights.size()),
                        /*padding*/ int32(0),
                        array(weightType, weights, "weights"),
                        int32(table.vocabSize),
                        int32(table.width),
                        int32(table.context),
                        int32(table.maxTokens),
                        int64(table.cacheBytes),
                        int64(table.scratchBytes),
                        int32(table.maxThreads),
                        int32(0)};
  Constant *program = ConstantStruct::getAnon(context, fields);
  new GlobalVariable(*module, program->getType(), true, GlobalValue::ExternalLinkage, program,
                     "quern_program_v1");

  // Nobody reads this: naming the parts takes their objects out of the runtime's archive.
  SmallVector<Constant *> parts;
  for (const std::string &part : table.parts)
    parts.push_back(cast<Constant>(module->getOrInsertGlobal(part, Type::getInt8Ty(context))));
  if (!parts.empty()) {
    auto *type = ArrayType::get(ptr, parts.size());
    appendToUsed(*module, new GlobalVariable(*module, type, true, GlobalValue::PrivateLinkage,
                                             ConstantArray::get(type, parts), "parts"));
  }

  if (withMain) {
    auto *type = FunctionType::get(i32, {i32, ptr}, false);
    auto *cli = cast<Function>(module->getOrInsertFunction("quern_main", type).getCallee());
    auto *main = Function::Create(type, GlobalValue::ExternalLinkage, "main", *module);
    IRBuilder<> b(BasicBlock::Create(context, "", main));
    b.CreateRet(b.CreateCall(cli, {main->getArg(0), main->getArg(1)}));
  }
  return module;
}

} // namespace quern::emit
