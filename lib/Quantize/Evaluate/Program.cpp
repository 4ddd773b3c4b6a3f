//===- Program.cpp - A model compiled and loaded in process ---------------===//
//
// The library's functions are found by name, each loaded model having its own.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Program.h"
#include "quern/Format/PackedLayout.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Support/Json.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

struct Program::Interface {
  decltype(&quern_default_options) defaultOptions;
  decltype(&quern_load) load;
  decltype(&quern_free) free;
  decltype(&quern_model_info) modelInfo;
  decltype(&quern_tokenize) tokenize;
  decltype(&quern_sequence_new) sequenceNew;
  decltype(&quern_rollback) rollback;
  decltype(&quern_prefill) prefill;
  decltype(&quern_prefill_all) prefillAll;
  decltype(&quern_set_observer) setObserver;
  decltype(&quern_set_boundary) setBoundary;
  decltype(&quern_replace_weight) replaceWeight;
};

Expected<std::unique_ptr<Program>> Program::create(StringRef model, const ProgramOptions &options) {
  std::unique_ptr<Program> out(new Program);
  if (model.ends_with(".so")) {
    if (Error e = out->load(model, options.threads))
      return std::move(e);
    return out;
  }
  llvm::SmallString<128> folder;
  if (std::error_code ec = llvm::sys::fs::createUniqueDirectory("quern-program", folder))
    return createStringError("cannot create a temporary folder: " + ec.message());
  out->folder = folder.str().str();
  CompileOptions compile;
  compile.model = model.str();
  compile.emit = EmitKind::Shared;
  compile.output = out->folder + "/model.so";
  compile.targets = {"native"};
  compile.context = options.context;
  compile.observers = options.observers;
  compile.boundaries = options.parts;
  compile.threads = options.threads;
  if (options.floatEngine) {
    compile.format = "f32";
    compile.dequantize = true;
    compile.activations = "f32";
    compile.kvCache = "f32";
  } else {
    compile.format = options.format;
    compile.dequantize = options.dequantize;
    if (!options.activations.empty())
      compile.activations = options.activations;
  }
  Expected<llvm::json::Object> report = quern::compile(compile);
  if (!report)
    return report.takeError();
  if (Error e = out->load(compile.output, options.threads))
    return std::move(e);
  return out;
}

Error Program::load(StringRef path, unsigned threads) {
  library = dlopen(path.str().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return createStringError("cannot load '" + path + "': " + dlerror());
  functions = std::make_unique<Interface>();
  bool missing = false;
  auto find = [&](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    missing |= !function;
  };
  find(functions->defaultOptions, "quern_default_options");
  find(functions->load, "quern_load");
  find(functions->free, "quern_free");
  find(functions->modelInfo, "quern_model_info");
  find(functions->tokenize, "quern_tokenize");
  find(functions->sequenceNew, "quern_sequence_new");
  find(functions->rollback, "quern_rollback");
  find(functions->prefill, "quern_prefill");
  find(functions->prefillAll, "quern_prefill_all");
  find(functions->setObserver, "quern_set_observer");
  find(functions->setBoundary, "quern_set_boundary");
  find(functions->replaceWeight, "quern_replace_weight");
  if (missing)
    return createStringError("'" + path +
                             "' is not a model compiled with --emit=shared by this "
                             "version");
  quern_options options;
  quern_error error;
  functions->defaultOptions(&options);
  options.threads = int32_t(threads);
  options.pin_threads = 0; // other work of this process shares the cores
  if (functions->load(&options, &model, &error) != QUERN_OK)
    return createStringError(error.message);
  functions->modelInfo(model, &info);
  Expected<llvm::json::Value> parsed = parseJson(info.metadata, path);
  if (!parsed)
    return parsed.takeError();
  if (llvm::json::Object *object = parsed->getAsObject())
    meta = std::move(*object);
  if (const llvm::json::Array *boundaries = meta.getArray("boundaries"))
    for (const llvm::json::Value &value : *boundaries) {
      const llvm::json::Object *boundary = value.getAsObject();
      columns = *boundary->getInteger("columns");
      ++streamParts;
      for (const llvm::json::Value &name : *boundary->getArray("weights"))
        partOf[*name.getAsString()] = streamParts;
    }
  if (functions->sequenceNew(model, &sequence, &error) != QUERN_OK)
    return createStringError(error.message);
  return Error::success();
}

Program::~Program() {
  if (model)
    functions->free(model);
#if !LLVM_ADDRESS_SANITIZER_BUILD
  // LeakSanitizer would take what libstdc++ allocates once, in a library that is gone, for lost.
  if (library)
    dlclose(library);
#endif
  if (!folder.empty())
    llvm::sys::fs::remove_directories(folder);
}

Expected<std::vector<int32_t>> Program::tokenize(StringRef text) {
  quern_error error;
  size_t count = 0;
  std::vector<int32_t> ids(text.size() + 8); // no token is shorter than a byte
  for (;;) {
    quern_status status = functions->tokenize(model, text.data(), text.size(), 0, ids.data(),
                                              ids.size(), &count, &error);
    if (status == QUERN_ERROR_BUFFER && count > ids.size()) {
      ids.resize(count);
      continue;
    }
    if (status != QUERN_OK)
      return createStringError(error.message);
    ids.resize(count);
    return ids;
  }
}

Expected<std::vector<int32_t>> Program::prefix() {
  quern_error error;
  size_t count = 0;
  std::vector<int32_t> ids(8);
  if (functions->tokenize(model, "", 0, 1, ids.data(), ids.size(), &count, &error) != QUERN_OK)
    return createStringError(error.message);
  ids.resize(count);
  return ids;
}

Error Program::run(ArrayRef<int32_t> tokens, std::vector<float> &logits) {
  quern_error error;
  logits.resize(tokens.size() * size_t(info.vocab_size));
  if (functions->rollback(model, sequence, 0, &error) != QUERN_OK ||
      functions->prefillAll(model, sequence, tokens.data(), tokens.size(), logits.data(), &error) !=
          QUERN_OK)
    return createStringError(error.message);
  return Error::success();
}

namespace {
/// One call of runParts: boundary i lies between parts i and i + 1.
struct PartsRun {
  size_t first, end;
  ArrayRef<float> stream;
  Program::StreamSink leave;
  size_t entered = 0;       ///< rows of `stream` that were used
  std::vector<size_t> left; ///< rows that left, by part

  static int32_t boundary(void *user, int32_t index, float *rows, int32_t count, int32_t columns,
                          int32_t thread, int32_t) {
    auto &run = *static_cast<PartsRun *>(user);
    size_t part = size_t(index), size = size_t(count) * size_t(columns);
    if (thread == 0 && part + 1 == run.first) {
      memcpy(rows, run.stream.data() + run.entered * size_t(columns), size * sizeof(float));
      run.entered += size_t(count);
    } else if (thread == 0 && part >= run.first && part < run.end) {
      run.leave(part, run.left[part], ArrayRef(rows, size));
      run.left[part] += size_t(count);
    }
    return part + 1 >= run.first && part + 1 < run.end;
  }
};
} // namespace

Error Program::runParts(ArrayRef<int32_t> tokens, size_t first, size_t end, ArrayRef<float> stream,
                        StreamSink leave, std::vector<float> *logits) {
  assert(first < end && end <= parts() &&
         (first == 0 || stream.size() == tokens.size() * size_t(columns)));
  PartsRun state{first, end, stream, leave, 0, std::vector<size_t>(parts())};
  quern_error error;
  if (functions->rollback(model, sequence, 0, &error) != QUERN_OK)
    return createStringError(error.message);
  functions->setBoundary(model, PartsRun::boundary, &state);
  quern_status status;
  if (end == parts() && logits) {
    logits->resize(tokens.size() * size_t(info.vocab_size));
    status = functions->prefillAll(model, sequence, tokens.data(), tokens.size(), logits->data(),
                                   &error);
  } else {
    status = functions->prefill(model, sequence, tokens.data(), tokens.size(), nullptr, &error);
  }
  functions->setBoundary(model, nullptr, nullptr);
  if (status != QUERN_OK)
    return createStringError(error.message);
  return Error::success();
}

void Program::setObserver(Observer observer, void *user) {
  functions->setObserver(model, observer, user);
}

/// `size` bytes, zero, in a file without a name.
static Expected<std::unique_ptr<llvm::sys::fs::mapped_file_region>> mapScratch(size_t size) {
  namespace fs = llvm::sys::fs;
  auto failed = [](std::error_code ec) {
    return createStringError("cannot make a temporary file for a weight: " + ec.message());
  };
  llvm::SmallString<128> path;
  int file = -1;
  if (std::error_code ec = fs::createTemporaryFile("quern", "weight", file, path))
    return failed(ec);
  fs::remove(path);
  // Blocks are taken now: a full disk is an error here, not a signal later.
  std::error_code ec(posix_fallocate(file, 0, off_t(size)), std::generic_category());
  std::unique_ptr<fs::mapped_file_region> region;
  if (!ec)
    region = std::make_unique<fs::mapped_file_region>(
        fs::convertFDToNativeFile(file), fs::mapped_file_region::readwrite, size, 0, ec);
  close(file);
  if (ec)
    return failed(ec);
  return region;
}

Error Program::replaceWeight(StringRef name, ArrayRef<float> values, int64_t rows,
                             int64_t columns) {
  quern_error error;
  auto replace = [&](const void *data, size_t size) -> Error {
    if (functions->replaceWeight(model, name.str().c_str(), data, size, &error) != QUERN_OK)
      return createStringError(error.message);
    return Error::success();
  };
  if (values.empty()) {
    if (Error e = replace(nullptr, 0))
      return e;
    replaced.erase(name);
    return Error::success();
  }
  if (int64_t(values.size()) != rows * columns)
    return createStringError("weight '" + name + "': expected " + llvm::Twine(rows * columns) +
                             " values, found " + llvm::Twine(values.size()));
  // Panels, or plain rows: as the program reads them.
  const json::Object *known = nullptr;
  if (const json::Array *tensors = meta.getArray("tensors"))
    for (const json::Value &value : *tensors)
      if (const json::Object *tensor = value.getAsObject())
        if (tensor->getString("name") == name)
          known = tensor;
  bool plain = known && known->getString("layout").value_or("") == "rows";
  size_t bytes = values.size() * sizeof(float);
  if (plain && known->getInteger("bytes").value_or(0) != int64_t(bytes))
    return createStringError("weight '" + name + "' has another shape or is not f32");
  format::Spec f32 = format::Spec::plain(format::Number::floating(format::FloatKind::F32));
  // Every matrix of a stack is in panels of its own.
  int64_t matrices = 1;
  if (const json::Array *shape = known ? known->getArray("shape") : nullptr)
    if (shape->size() == 3)
      matrices = (*shape)[0].getAsInteger().value_or(1);
  Expected<format::PackedLayout> layout = format::PackedLayout::get(f32, rows / matrices, columns);
  if (!layout)
    return layout.takeError();
  if (!plain)
    bytes = size_t(layout->bytes() * matrices);
  auto region = mapScratch(bytes);
  if (!region)
    return region.takeError();
  auto *data = reinterpret_cast<uint8_t *>((*region)->data());
  if (plain) {
    memcpy(data, values.data(), bytes);
  } else {
    size_t size = values.size() / size_t(matrices);
    for (int64_t m = 0; m < matrices; ++m) {
      format::Components all;
      format::allocate(f32, 0, rows / matrices, columns, all);
      memcpy(all.codes.bytes.data(), values.data() + size_t(m) * size, size * sizeof(float));
      for (int64_t panel = 0; panel < layout->panels(); ++panel) {
        uint8_t *to = data + m * layout->bytes() + panel * layout->panelBytes;
        if (Error e = layout->packPanel(all, panel,
                                        llvm::MutableArrayRef(to, size_t(layout->panelBytes))))
          return e;
      }
    }
  }
  if (Error e = replace(data, bytes))
    return e;
  replaced[name] = std::move(*region);
  return Error::success();
}
