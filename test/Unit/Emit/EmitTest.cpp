// Files are written aside, payloads read back, objects are the same with any number of threads.
#include "quern/Emit/Link.h"
#include "quern/Emit/ObjectFile.h"
#include "quern/Emit/PayloadWriter.h"
#include "quern/Emit/ProgramTable.h"
#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include <gtest/gtest.h>

using namespace llvm;
using namespace quern;

namespace {
struct EmitTest : testing::Test {
  SmallString<128> dir;
  EmitTest() { (void)sys::fs::createUniqueDirectory("quern-emit", dir); }
  ~EmitTest() override { (void)sys::fs::remove_directories(dir); }
  std::string path(StringRef name) { return (dir + "/" + name).str(); }
  size_t files() {
    size_t n = 0;
    std::error_code ec;
    for (sys::fs::directory_iterator i(dir, ec), e; i != e && !ec; i.increment(ec))
      ++n;
    return n;
  }
};

std::string read(StringRef path) {
  auto buffer = MemoryBuffer::getFile(path);
  return buffer ? (*buffer)->getBuffer().str() : "";
}

// A loop that the vectorizer turns into what each target has.
const char *const dotProduct = R"(
define void @entry(ptr %a, ptr %out, i64 %n) {
begin:
  br label %loop
loop:
  %i = phi i64 [0, %begin], [%next, %loop]
  %p = getelementptr float, ptr %a, i64 %i
  %x = load float, ptr %p
  %y = fmul float %x, 2.0
  %q = getelementptr float, ptr %out, i64 %i
  call void @helper(ptr %q, float %y)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
define void @helper(ptr %q, float %y) {
  store float %y, ptr %q
  ret void
}
)";

emit::TargetModule module(StringRef target) {
  return {cantFail(target::lookup(target)),
          [](LLVMContext &context) -> Expected<std::unique_ptr<Module>> {
            SMDiagnostic diagnostic;
            return parseAssemblyString(dotProduct, diagnostic, context);
          },
          {"entry"}};
}
} // namespace

TEST_F(EmitTest, FilesAppearWholeOrNotAtAll) {
  {
    auto file = cantFail(quern::OutputFile::create(path("a"), false));
    file.stream() << "half";
    EXPECT_FALSE(sys::fs::exists(path("a")));
  }
  EXPECT_EQ(files(), 0u) << "an abandoned file leaves nothing behind";
  {
    auto file = cantFail(quern::OutputFile::create(path("a"), false));
    file.stream() << "whole";
    ASSERT_FALSE(errorToBool(file.keep()));
  }
  EXPECT_EQ(read(path("a")), "whole");
  auto again = quern::OutputFile::create(path("a"), false);
  ASSERT_FALSE(bool(again));
  EXPECT_NE(toString(again.takeError()).find("--force"), std::string::npos);
  EXPECT_TRUE(bool(quern::OutputFile::create(path("a"), true)));
  EXPECT_NE(toString(quern::OutputFile::create(path("no/such"), false).takeError()).find("no/such"),
            std::string::npos);
}

TEST_F(EmitTest, PayloadReadsBack) {
  uint8_t small[] = {1, 2, 3}, big[5000];
  for (size_t i = 0; i < sizeof big; ++i)
    big[i] = uint8_t(i * 7);
  for (bool beside : {false, true}) {
    std::string name = path(beside ? "b" : "e");
    uint64_t hash = 0;
    auto writeWeights = [&](emit::PayloadWriter &w) {
      w.begin(runtime::WeightSection);
      w.write(small);
      w.padTo(64);
      w.write(big);
      EXPECT_EQ(w.position(), 5064u);
      hash = w.weightsHash();
    };
    if (beside) {
      auto file = cantFail(quern::OutputFile::create(name + ".weights", false));
      emit::PayloadWriter w(file);
      writeWeights(w);
      ASSERT_FALSE(errorToBool(w.finish()));
    }
    auto file = cantFail(quern::OutputFile::create(name, false));
    emit::PayloadWriter w(file);
    w.stream() << "the program";
    if (beside)
      w.setWeightsBeside(hash);
    else
      writeWeights(w);
    w.begin(runtime::TokenizerSection);
    w.write(small);
    w.begin(runtime::MetadataSection);
    w.write("{}");
    ASSERT_FALSE(errorToBool(w.finish()));

    runtime::Payload p;
    runtime::Status s = runtime::Payload::open(name, "", p);
    ASSERT_TRUE(s.ok()) << s.message;
    auto weights = p.section(runtime::WeightSection);
    ASSERT_EQ(weights.size(), 5064u);
    EXPECT_EQ(memcmp(weights.data() + 64, big, sizeof big), 0);
    EXPECT_TRUE(p.verifyWeights().ok());
    EXPECT_EQ(p.section(runtime::TokenizerSection).size(), 3u);
    EXPECT_EQ(p.metadata(), "{}");
    if (beside) { // other weights must not be taken for these
      sys::fs::remove(name + ".weights");
      EXPECT_NE(runtime::Payload::open(name, "", p).message.find("b.weights: cannot open"),
                std::string::npos);
      auto other = cantFail(quern::OutputFile::create(path("other"), false));
      emit::PayloadWriter o(other);
      o.begin(runtime::WeightSection);
      o.write(small);
      ASSERT_FALSE(errorToBool(o.finish()));
      EXPECT_NE(runtime::Payload::open(name, path("other"), p).message.find("other weights"),
                std::string::npos);
    }
  }
}

TEST_F(EmitTest, ObjectsDoNotDependOnThreads) {
  std::vector<emit::TargetModule> modules;
  for (StringRef name : {"x86-64-v3", "icelake-server", "sapphirerapids", "aarch64"})
    modules.push_back(module(name));
  auto one = cantFail(emit::compileModules(modules, emit::CodeKind::Object, 1));
  auto two = cantFail(emit::compileModules(modules, emit::CodeKind::Object, 4));
  ASSERT_EQ(one.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(one[i], two[i]);
    auto object = cantFail(object::ObjectFile::createObjectFile(
        MemoryBufferRef(StringRef(one[i].data(), one[i].size()), "o")));
    EXPECT_EQ(object->getArch(), i == 3 ? Triple::aarch64 : Triple::x86_64);
    unsigned visible = 0;
    for (const object::SymbolRef &symbol : object->symbols())
      if (cantFail(symbol.getFlags()) & object::SymbolRef::SF_Global) {
        ++visible;
        EXPECT_EQ(cantFail(symbol.getName()), "entry");
      }
    EXPECT_EQ(visible, 1u);
  }
  auto text = cantFail(emit::compileModules({module("x86-64-v3"), module("icelake-server")},
                                            emit::CodeKind::Assembly, 2));
  EXPECT_EQ(StringRef(text[0].data(), text[0].size()).count("zmm"), 0u);
  EXPECT_NE(StringRef(text[0].data(), text[0].size()).count("ymm"), 0u);
  EXPECT_NE(StringRef(text[1].data(), text[1].size()).count("zmm"), 0u);
}

TEST_F(EmitTest, BrokenModulesAreErrors) {
  emit::TargetModule broken = module("x86-64-v3");
  broken.build = [](LLVMContext &) -> Expected<std::unique_ptr<Module>> {
    return createStringError("no lowering for op 'x'");
  };
  auto result = emit::compileModules({module("x86-64-v3"), broken}, emit::CodeKind::Object, 2);
  EXPECT_EQ(toString(result.takeError()), "no lowering for op 'x'");
}

TEST_F(EmitTest, LinksRelocatableAndReportsFailures) {
  auto objects = cantFail(emit::compileModules({module("x86-64-v3")}, emit::CodeKind::Object, 1));
  {
    auto file = cantFail(quern::OutputFile::create(path("a.o"), false));
    file.stream().write(objects[0].data(), objects[0].size());
    ASSERT_FALSE(errorToBool(file.keep()));
  }
  Error e = emit::link(emit::ImageKind::Relocatable, {path("a.o")}, path("b.o"));
  EXPECT_FALSE(errorToBool(std::move(e)));
  EXPECT_TRUE(sys::fs::exists(path("b.o")));
  e = emit::link(emit::ImageKind::Relocatable, {path("missing.o")}, path("c.o"));
  EXPECT_NE(toString(std::move(e)).find("missing.o"), std::string::npos);
  e = emit::link(emit::ImageKind::Relocatable, {path("a.o")}, path("b.o"));
  EXPECT_FALSE(errorToBool(std::move(e))) << "the linker can run again";
}
