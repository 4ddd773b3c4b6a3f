//===- InspectProgram.cpp - What lies in an emitted program ---------------===//
//
// Reads the payload at the end of an executable, library or weights file; nothing
// is run.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Inspect.h"
#include "quern/Import/Parsers.h"
#include "quern/Runtime/Payload.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include <map>

using namespace llvm;
using namespace quern::runtime;

namespace quern::import {

static constexpr StringLiteral sectionNames[PayloadSectionCount] = {"weights", "tokenizer", "chat",
                                                                    "metadata"};

bool isProgram(StringRef path) {
  sys::fs::file_status status;
  if (sys::fs::status(path, status) || !sys::fs::is_regular_file(status) ||
      status.getSize() < sizeof(PayloadFooter))
    return false;
  auto buffer = MemoryBuffer::getFileSlice(path, sizeof(PayloadFooter),
                                           status.getSize() - sizeof(PayloadFooter));
  return buffer &&
         (*buffer)->getBuffer().starts_with(StringRef(payloadMagic, sizeof(payloadMagic)));
}

Expected<json::Object> inspectProgram(StringRef path) {
  Payload payload;
  if (Status status = Payload::open(path.str(), "", payload); status.failed())
    return createStringError(status.message);
  json::Object sections;
  for (unsigned kind = 0; kind < PayloadSectionCount; ++kind)
    sections[sectionNames[kind]] = int64_t(payload.section(PayloadSection(kind)).size());
  json::Object report{{"path", path}, {"container", "program"}, {"sections", std::move(sections)}};
  if (!payload.weightsFile().empty())
    report["weights_file"] = payload.weightsFile();
  if (!payload.metadata().empty()) {
    Expected<json::Value> metadata = parseJson(payload.metadata(), path);
    if (!metadata)
      return metadata.takeError();
    report["metadata"] = std::move(*metadata);
  }
  return report;
}

/// Objects become rows of a table with a column for each key; everything else one line each.
static void printValue(StringRef name, const json::Value &value, raw_ostream &os) {
  const json::Array *array = value.getAsArray();
  if (!array || array->empty() || !array->front().getAsObject()) {
    os << left_justify(name, 20) << "  " << value << "\n";
    return;
  }
  std::map<std::string, size_t> widths;
  auto cell = [](const json::Value *item) -> std::string {
    if (!item)
      return "";
    if (std::optional<StringRef> text = item->getAsString())
      return text->str();
    std::string text;
    raw_string_ostream(text) << *item;
    return text;
  };
  for (const json::Value &item : *array)
    if (const json::Object *row = item.getAsObject())
      for (const auto &entry : *row) {
        size_t &width = widths[StringRef(entry.first).str()];
        width = std::max({width, StringRef(entry.first).size(), cell(&entry.second).size()});
      }
  os << "\n" << name << ":\n";
  for (auto &[key, width] : widths)
    os << "  " << left_justify(key, width);
  for (const json::Value &item : *array) {
    os << "\n";
    for (auto &[key, width] : widths)
      os << "  "
         << left_justify(item.getAsObject() ? cell(item.getAsObject()->get(key)) : "", width);
  }
  os << "\n";
}

void printProgram(const json::Object &report, raw_ostream &os) {
  os << report.getString("path").value_or("") << ": an emitted program\n";
  for (StringRef name : sectionNames)
    os << "  " << left_justify(name, 10)
       << right_justify(std::to_string(report.getObject("sections")->getInteger(name).value_or(0)),
                        14)
       << " bytes\n";
  const json::Object *metadata = report.getObject("metadata");
  if (!metadata)
    return;
  std::map<std::string, const json::Value *> sorted; // objects have no order of their own
  for (const auto &entry : *metadata)
    sorted[StringRef(entry.first).str()] = &entry.second;
  os << "\n";
  for (bool tables : {false, true})
    for (auto &[name, value] : sorted)
      if ((value->getAsArray() != nullptr) == tables)
        printValue(name, *value, os);
}

} // namespace quern::import
