//===- Convert.cpp - From one model container to another ------------------===//
//
// Checks options, makes the plan, writes aside, renames.
//
//===----------------------------------------------------------------------===//
#include "quern/Export/Convert.h"
#include "Plan.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace quern::import;

namespace quern::exporter {
namespace {

using Writer = Error(const ModelFile &, const Plan &, const ConvertOptions &, raw_ostream &);

Error writeFile(const ModelFile &model, const Plan &plan, const ConvertOptions &options,
                StringRef path, Writer writer) {
  Expected<OutputFile> file = OutputFile::create(path, options.force);
  if (!file)
    return file.takeError();
  if (Error e = writer(model, plan, options, file->stream()))
    return e;
  return file->keep();
}

/// Never write over what is being read: the mapping would change underneath.
Error checkDistinct(const ModelFile &model, StringRef out) {
  for (const SourceFile &file : model.files)
    if (bool same = false; !sys::fs::equivalent(file.path, out, same) && same)
      return createStringError("'" + out + "' is the input");
  return Error::success();
}

Error writeDirectory(const ModelFile &model, const Plan &plan, const ConvertOptions &options,
                     StringRef out) {
  if (sys::fs::exists(out) && !sys::fs::is_directory(out))
    return createStringError("'" + out + "' exists and is not a directory");
  std::error_code code;
  bool empty = !sys::fs::exists(out) ||
               sys::fs::directory_iterator(out, code) == sys::fs::directory_iterator();
  if (!empty && !options.force)
    return createStringError("'" + out + "' exists; give --force to overwrite it");
  SmallString<256> parent(sys::path::parent_path(out)), temporary;
  sys::fs::createUniquePath(out + ".%%%%%%.tmp", temporary, /*MakeAbsolute=*/false);
  if (std::error_code failed =
          sys::fs::create_directory(temporary, /*IgnoreExisting=*/false,
                                    sys::fs::all_read | sys::fs::owner_write | sys::fs::all_exe))
    return createStringError("cannot write '" + out + "': " + failed.message());
  scope_exit clean([&] { sys::fs::remove_directories(temporary); });
  auto inside = [](StringRef directory, StringRef name) {
    SmallString<256> path(directory);
    sys::path::append(path, name);
    return path;
  };
  std::vector<std::string> names;
  for (const auto &[name, contents] : plan.documents) {
    Expected<OutputFile> file = OutputFile::create(inside(temporary, name), false);
    if (!file)
      return file.takeError();
    file->stream() << contents;
    if (Error e = file->keep())
      return e;
    names.push_back(name);
  }
  names.push_back("model.safetensors");
  if (Error e = writeFile(model, plan, options, inside(temporary, names.back()), writeSafetensors))
    return e;
  if (!sys::fs::exists(out)) {
    if (std::error_code failed = sys::fs::rename(temporary, out))
      return createStringError("cannot write '" + out + "': " + failed.message());
    clean.release();
    return Error::success();
  }
  for (const std::string &name : names)
    if (std::error_code failed = sys::fs::rename(inside(temporary, name), inside(out, name)))
      return createStringError("cannot write '" + out + "': " + failed.message());
  return Error::success();
}

} // namespace

Error convert(const ModelFile &model, StringRef out, const ConvertOptions &options) {
  if (!options.dequantize.empty() && options.dequantize != "f32" && options.dequantize != "bf16")
    return createStringError("cannot dequantize to '" + options.dequantize +
                             "'; expected f32 or bf16");
  if (!options.dequantize.empty() && !options.format.empty())
    return createStringError("--dequantize and --format exclude each other");
  out = out.size() > 1 ? out.rtrim('/') : out;
  if (Error e = checkDistinct(model, out))
    return e;
  if (out.ends_with(".gguf")) {
    if (Error e = checkWritable(out, options.force))
      return e;
    Expected<Plan> plan = planGGUF(model, options);
    if (!plan)
      return plan.takeError();
    return writeFile(model, *plan, options, out, writeGGUF);
  }
  bool bare = out.ends_with(".safetensors");
  Expected<Plan> plan = planHuggingFace(model, options, bare);
  if (!plan)
    return plan.takeError();
  if (bare)
    return writeFile(model, *plan, options, out, writeSafetensors);
  if (Error e = checkDistinct(model, (out + "/model.safetensors").str()))
    return e;
  return writeDirectory(model, *plan, options, out);
}

Expected<uint64_t> ggufSize(const ModelFile &model, const ConvertOptions &options) {
  Expected<Plan> plan = planGGUF(model, options);
  if (!plan)
    return plan.takeError();
  std::string header;
  raw_string_ostream os(header);
  uint64_t size = 0;
  if (Error e = writeGGUFHeader(*plan, os, size))
    return std::move(e);
  return size;
}

} // namespace quern::exporter
