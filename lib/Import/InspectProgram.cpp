//===- InspectProgram.cpp - What lies in an emitted program ---------------===//
//
// Reads the payload at the end of an executable, library or weights file; nothing
// is run.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Inspect.h"
#include "quern/Import/Parsers.h"
#include "quern/Runtime/Payload.h"
#include "quern/Support/Json.h"
#include "quern/Support/Printable.h"
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

static std::string cell(const json::Object &row, StringRef key) {
  const json::Value *value = row.get(key);
  if (!value)
    return "";
  if (std::optional<StringRef> text = value->getAsString())
    return printable(*text);
  if (const json::Array *extents = value->getAsArray()) {
    std::string text;
    for (const json::Value &extent : *extents)
      text += (text.empty() ? "" : "x") + std::to_string(integerOf(extent).value_or(0));
    return text;
  }
  std::string text;
  raw_string_ostream(text) << *value;
  return text;
}

void printTensorTable(const json::Array &tensors, raw_ostream &os) {
  static const std::pair<StringLiteral, bool> columns[] = {
      {"name", false}, {"shape", true},   {"format", false},      {"bits", true},
      {"bytes", true}, {"layout", false}, {"activations", false}, {"kernel", false}};
  std::vector<std::string> lines(tensors.size() + 1);
  for (auto [key, right] : columns) {
    size_t width = key.size();
    bool any = false;
    for (const json::Value &tensor : tensors)
      if (const json::Object *row = tensor.getAsObject(); row && row->get(key)) {
        any = true;
        width = std::max(width, cell(*row, key).size());
      }
    if (!any)
      continue;
    auto append = [&](std::string &line, StringRef text) {
      line += line.empty() ? "" : "  ";
      raw_string_ostream stream(line);
      stream << (right ? right_justify(text, width) : left_justify(text, width));
    };
    append(lines[0], key);
    for (auto [line, tensor] : zip(drop_begin(lines), tensors))
      append(line, tensor.getAsObject() ? cell(*tensor.getAsObject(), key) : "");
  }
  for (const std::string &line : lines)
    os << StringRef(line).rtrim() << "\n";
}

void printProgram(const json::Object &report, raw_ostream &os) {
  os << report.getString("path").value_or("") << ": an emitted program\n";
  for (StringRef name : sectionNames)
    os << "  " << left_justify(name, 10)
       << right_justify(std::to_string(integerOf(*report.getObject("sections"), name).value_or(0)),
                        14)
       << " bytes\n";
  const json::Object *metadata = report.getObject("metadata");
  if (!metadata)
    return;
  std::map<std::string, const json::Value *> sorted; // objects have no order of their own
  for (const auto &entry : *metadata)
    sorted[StringRef(entry.first).str()] = &entry.second;
  os << "\n";
  for (auto &[name, value] : sorted)
    if (name != "tensors")
      os << left_justify(printable(name), 20) << "  " << *value << "\n";
  if (const json::Array *tensors = metadata->getArray("tensors")) {
    os << "\n";
    printTensorTable(*tensors, os);
  }
}

} // namespace quern::import
