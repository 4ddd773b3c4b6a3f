// Inspecting emitted programs: the payload is read without running anything.
#include "Builders.h"
#include "quern/Import/Inspect.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Payload.h"

using namespace quern::import;
using namespace quern::runtime;
using namespace quern::test;

namespace {

/// An image, then aligned sections, then the footer.
std::string program(const std::string &metadata) {
  std::string file(payloadAlignment, 'E');
  PayloadFooter footer = {};
  std::memcpy(footer.magic, payloadMagic, 8);
  footer.version = payloadVersion;
  const std::string sections[] = {std::string(100, 'w'), "tokens", "", metadata};
  Hash64 contents, weights, whole;
  for (unsigned i = 0; i < PayloadSectionCount; ++i) {
    file.resize((file.size() + payloadAlignment - 1) / payloadAlignment * payloadAlignment);
    footer.sections[i] = {file.size(), sections[i].size()};
    file += sections[i];
    (i == WeightSection ? weights : contents).update(sections[i].data(), sections[i].size());
  }
  footer.weightsHash = weights.finish();
  footer.contentsHash = contents.finish();
  footer.fileSize = file.size() + sizeof(footer);
  whole.update(&footer, offsetof(PayloadFooter, footerHash));
  footer.footerHash = whole.finish();
  return file + std::string(reinterpret_cast<const char *>(&footer), sizeof(footer));
}

TEST(InspectProgram, ReportsSectionsAndMetadata) {
  Scratch scratch;
  std::string path = scratch.write(
      "model",
      program(R"({"name":"tiny","tensors":[{"name":"a","bits":4.5},{"name":"bb","bits":8}]})"));
  ASSERT_TRUE(isProgram(path));
  auto report = inspectProgram(path);
  ASSERT_TRUE(bool(report)) << llvm::toString(report.takeError());
  EXPECT_EQ(*report->getObject("sections")->getInteger("weights"), 100);
  EXPECT_EQ(*report->getObject("metadata")->getString("name"), "tiny");
  std::string text;
  llvm::raw_string_ostream os(text);
  printProgram(*report, os);
  EXPECT_CONTAINS(text, "weights              100 bytes");
  EXPECT_CONTAINS(text, "name  bits\na      4.5\nbb       8\n");
}

TEST(InspectProgram, DamageIsAnError) {
  Scratch scratch;
  std::string good = program("{\"name\":\"x\"}");
  for (size_t at : {size_t(3 * payloadAlignment), good.size() - 20}) { // the tokenizer, the footer
    std::string bytes = good;
    bytes[at] ^= 1;
    auto report = inspectProgram(scratch.write("damaged", bytes));
    EXPECT_FALSE(bool(report)) << at;
    llvm::consumeError(report.takeError());
  }
  EXPECT_FALSE(isProgram(scratch.write("short", "QUERNPK1")));
  EXPECT_FALSE(isProgram(scratch.directory()));
}

} // namespace
