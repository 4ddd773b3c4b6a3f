//===- Formats.cpp - quern formats ----------------------------------------===//
//
// Lists the formats known by name, and explains any format of the algebra.
//
//===----------------------------------------------------------------------===//
#include "Commands.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"

using namespace llvm;
using namespace quern::format;

namespace {
const char help[] =
    "usage: quern formats [FORMAT ...] [options]\n\n"
    "Lists the formats known by name: bits per weight of a large matrix, spelling, and the GGUF\n"
    "type that stores it. With FORMATs (names or spellings), only those, with exact sizes.\n\n"
    "  --shape NxK      the matrix whose stored bytes to print (default 4096x4096)\n"
    "  --json           an array of objects instead of a table\n";

struct Row {
  std::string name, spelling, file, summary;
  Spec spec;
};

std::string fileTypeOf(const Spec &spec) {
  const FileType *type = ggufType(spec);
  return type ? type->name.str() : "";
}

/// "4096x11008" to its dimensions; empty if malformed.
SmallVector<int64_t> parseShape(StringRef text) {
  SmallVector<StringRef> parts;
  SmallVector<int64_t> shape;
  text.split(parts, 'x');
  for (StringRef part : parts) {
    int64_t dim;
    if (part.getAsInteger(10, dim) || dim < 0)
      return {};
    shape.push_back(dim);
  }
  return shape;
}
} // namespace

int quern::tool::formats(int argc, char **argv) {
  SmallVector<StringRef> words;
  SmallVector<int64_t> shape = {4096, 4096};
  bool asJson = false;
  for (int i = 1; i < argc; ++i) {
    StringRef a = argv[i];
    if (a == "--help" || a == "-h") {
      outs() << help;
      return Success;
    }
    if (a == "--json") {
      asJson = true;
    } else if (a == "--shape" && i + 1 < argc) {
      shape = parseShape(argv[++i]);
      if (shape.empty()) {
        errs() << "quern: error: --shape '" << argv[i]
               << "'; expected dimensions such as 4096x4096\n";
        return Usage;
      }
    } else if (a.starts_with("--")) {
      errs() << "quern: error: unknown option '" << a << "'\n\n" << help;
      return Usage;
    } else {
      words.push_back(a);
    }
  }

  std::vector<Row> rows;
  for (StringRef word : words) {
    Expected<Spec> spec = parse(word);
    if (!spec)
      return fail(spec.takeError());
    rows.push_back({knownName(*spec).str(), print(*spec), fileTypeOf(*spec), "", *spec});
  }
  if (words.empty())
    for (const KnownFormat &known : knownFormats()) {
      const Spec &spec = *knownSpec(known.name);
      rows.push_back(
          {known.name.str(), known.spelling.str(), fileTypeOf(spec), known.summary.str(), spec});
    }

  json::Array list;
  for (const Row &row : rows) {
    std::vector<int64_t> sets;
    if (row.spec.kind == Spec::Kind::Split) {
      auto chosen = splitColumns(row.spec, shape.back());
      if (!chosen)
        return fail(chosen.takeError());
      sets = std::move(*chosen);
    }
    Expected<uint64_t> bytes = storedBytes(row.spec, shape, sets);
    if (!bytes)
      return fail(bytes.takeError());
    if (asJson) {
      list.push_back(json::Object{{"name", row.name},
                                  {"format", row.spelling},
                                  {"bits_per_weight", bitsPerWeight(row.spec)},
                                  {"gguf", row.file},
                                  {"bytes", int64_t(*bytes)}});
    } else if (words.empty()) {
      outs() << left_justify(row.name, 18) << llvm::format("%8.5g  ", bitsPerWeight(row.spec))
             << left_justify(row.file, 8) << "  " << row.spelling << "\n";
    } else {
      outs() << row.spelling << ": " << llvm::format("%g", bitsPerWeight(row.spec))
             << " bits per weight, " << *bytes << " bytes for ";
      ListSeparator separator("x");
      for (int64_t dim : shape)
        outs() << separator << dim;
      outs() << "\n";
    }
  }
  if (asJson)
    outs() << formatv("{0:2}\n", json::Value(std::move(list)));
  return Success;
}
