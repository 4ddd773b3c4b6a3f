//===- _quern.cpp - The extension module behind the package ---------------===//
//
// nanobind over the two C interfaces: quern-c/quern.h (the compiler) and, for a
// compiled model loaded from a shared library, Runtime/quern.h.
//
//===----------------------------------------------------------------------===//
#include "quern-c/quern.h"
#include "quern/Runtime/quern.h"
#include <dlfcn.h>
#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using FloatArray = nb::ndarray<nb::numpy, float>;

namespace {

[[noreturn]] void raise(const std::string &message) { throw std::runtime_error(message); }

/// A numpy array that owns its memory.
FloatArray makeArray(float *data, std::vector<size_t> shape) {
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<float *>(p); });
  return FloatArray(data, shape.size(), shape.data(), owner);
}

//===--- The compiler -----------------------------------------------------===//

/// Collects diagnostics and forwards progress to a Python callable, which cancels by
/// returning False or raising.
struct Caller {
  nb::object progress;
  std::string errors;
  std::vector<std::string> remarks;
  bool raised = false;
  QuernCallbacks callbacks;

  explicit Caller(nb::object progress = nb::none()) : progress(std::move(progress)) {
    callbacks = {sizeof callbacks, this, onDiagnostic, onProgress};
  }
  static void onDiagnostic(void *user, QuernSeverity severity, const char *message) {
    auto *self = static_cast<Caller *>(user);
    if (severity == QUERN_SEVERITY_ERROR)
      self->errors += (self->errors.empty() ? "" : "\n") + std::string(message);
    else
      self->remarks.push_back(message);
  }
  static int onProgress(void *user, const char *phase, double fraction) {
    auto *self = static_cast<Caller *>(user);
    nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals()) {
      self->raised = true;
      return 1;
    }
    if (self->progress.is_none())
      return 0;
    PyObject *result = PyObject_CallFunction(self->progress.ptr(), "sd", phase, fraction);
    if (!result) {
      self->raised = true;
      return 1;
    }
    bool cancel = result == Py_False;
    Py_DECREF(result);
    return cancel;
  }
  /// Turns a status into an exception.
  void check(QuernStatus status) {
    if (raised)
      throw nb::python_error();
    if (status == QUERN_STATUS_CANCELLED)
      raise("cancelled");
    if (status != QUERN_STATUS_OK)
      raise(errors);
  }
};

struct Model {
  QuernModel *model = nullptr;
  explicit Model(const std::string &path) {
    Caller caller;
    caller.check(quernModelOpen(path.c_str(), &caller.callbacks, &model));
  }
  ~Model() { quernModelClose(model); }
  Model(const Model &) = delete;

  size_t count() const { return quernModelTensorCount(model); }
  /// (name, file type, format, shape, bytes)
  nb::tuple tensor(size_t index) const {
    QuernTensorInfo info;
    if (quernModelTensor(model, index, &info) != QUERN_STATUS_OK)
      throw nb::index_error("tensor index out of range");
    nb::list shape;
    for (size_t i = 0; i < info.rank; ++i)
      shape.append(info.shape[i]);
    return nb::make_tuple(info.name, info.fileType, info.format, nb::tuple(shape), info.bytes);
  }
  FloatArray read(size_t index) const {
    QuernTensorInfo info;
    if (quernModelTensor(model, index, &info) != QUERN_STATUS_OK)
      throw nb::index_error("tensor index out of range");
    auto values = std::make_unique<float[]>(info.elements);
    Caller caller;
    QuernStatus status;
    {
      nb::gil_scoped_release release;
      status = quernModelReadTensor(model, index, values.get(), info.elements, &caller.callbacks);
    }
    caller.check(status);
    return makeArray(values.release(), {info.shape, info.shape + info.rank});
  }
  std::string inspect() const {
    Caller caller;
    QuernString json;
    caller.check(quernModelInspect(model, &caller.callbacks, &json));
    std::string text(json.data, json.length);
    quernStringFree(json);
    return text;
  }
  std::vector<int32_t> tokenize(const std::string &text) const {
    Caller caller;
    int32_t *ids = nullptr;
    size_t count = 0;
    caller.check(
        quernModelTokenize(model, text.data(), text.size(), &caller.callbacks, &ids, &count));
    std::vector<int32_t> result(ids, ids + count);
    quernIdsFree(ids);
    return result;
  }
};

using Text = std::optional<std::string>;
const char *orNull(const Text &text) { return text ? text->c_str() : nullptr; }

std::vector<std::string> convert(const std::string &input, const std::string &output, Text format,
                                 Text dequantize, bool force, nb::object progress) {
  Caller caller(std::move(progress));
  QuernConvertOptions options = {sizeof options, orNull(format), orNull(dequantize), force};
  QuernStatus status;
  {
    nb::gil_scoped_release release;
    status = quernConvert(input.c_str(), output.c_str(), &options, &caller.callbacks);
  }
  caller.check(status);
  return caller.remarks;
}

std::vector<std::string> compile(const std::string &model, const std::string &output, Text emit,
                                 Text targets, Text format, Text activations, Text kvCache,
                                 int64_t context, bool weightsBeside, bool force, Text solver,
                                 Text text, nb::object progress) {
  Caller caller(std::move(progress));
  QuernCompileOptions options = {sizeof options,      orNull(emit),    orNull(targets),
                                 orNull(format),      orNull(activations), orNull(kvCache),
                                 context,             weightsBeside,   force,
                                 orNull(solver),      orNull(text)};
  QuernStatus status;
  {
    nb::gil_scoped_release release;
    status = quernCompile(model.c_str(), output.c_str(), &options, &caller.callbacks);
  }
  caller.check(status);
  return caller.remarks;
}

//===--- Compiled models --------------------------------------------------===//

/// A shared library made by `compile(emit="shared")`.
struct Program {
  void *handle = nullptr;
  quern_model *model = nullptr;
  quern_info info;

  template <typename F> F *symbol(const char *name) const {
    void *address = dlsym(handle, name);
    if (!address)
      raise(std::string("not a library made by Quern: it lacks '") + name + "'");
    return reinterpret_cast<F *>(address);
  }
#define QUERN_CALL(name) symbol<decltype(name)>(#name)

  static void check(quern_status status, const quern_error &error) {
    if (status != QUERN_OK)
      raise(error.message);
  }

  Program(const std::string &path, int threads, int sequences, bool hugePages) {
    handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle)
      raise(dlerror());
    quern_options options;
    quern_error error = {};
    QUERN_CALL(quern_default_options)(&options);
    options.threads = threads;
    options.max_sequences = sequences;
    options.huge_pages = hugePages;
    check(QUERN_CALL(quern_load)(&options, &model, &error), error);
    QUERN_CALL(quern_model_info)(model, &info);
  }
  ~Program() {
    if (model)
      QUERN_CALL(quern_free)(model);
    // The library stays loaded: threads of it may still be leaving.
  }
  Program(const Program &) = delete;

  std::vector<int32_t> tokenize(const std::string &text, bool special) const {
    std::vector<int32_t> ids(text.size() + 16);
    size_t count = 0;
    quern_error error = {};
    auto *call = QUERN_CALL(quern_tokenize);
    quern_status status = call(model, text.data(), text.size(), special, ids.data(), ids.size(),
                               &count, &error);
    if (status == QUERN_ERROR_BUFFER) {
      ids.resize(count);
      status = call(model, text.data(), text.size(), special, ids.data(), ids.size(), &count, &error);
    }
    check(status, error);
    ids.resize(count);
    return ids;
  }
  nb::bytes tokenBytes(int32_t id) const {
    char buffer[1024];
    size_t size = 0;
    quern_error error = {};
    check(QUERN_CALL(quern_token_text)(model, id, buffer, sizeof buffer, &size, &error), error);
    return nb::bytes(buffer, size);
  }
  int32_t newSequence() {
    int32_t sequence;
    quern_error error = {};
    check(QUERN_CALL(quern_sequence_new)(model, &sequence, &error), error);
    return sequence;
  }
  void freeSequence(int32_t sequence) {
    quern_error error = {};
    check(QUERN_CALL(quern_sequence_free)(model, sequence, &error), error);
  }
  void rollback(int32_t sequence, int32_t length) {
    quern_error error = {};
    check(QUERN_CALL(quern_rollback)(model, sequence, length, &error), error);
  }
  /// Appends tokens; logits after each of them, or after the last alone.
  FloatArray prefill(int32_t sequence, const std::vector<int32_t> &tokens, bool all) {
    size_t rows = all ? tokens.size() : 1, vocab = info.vocab_size;
    auto logits = std::make_unique<float[]>(rows * vocab);
    quern_error error = {};
    auto *call = all ? QUERN_CALL(quern_prefill_all) : QUERN_CALL(quern_prefill);
    quern_status status;
    {
      nb::gil_scoped_release release;
      status = call(model, sequence, tokens.data(), tokens.size(), logits.get(), &error);
    }
    check(status, error);
    if (all)
      return makeArray(logits.release(), {rows, vocab});
    return makeArray(logits.release(), {vocab});
  }
  FloatArray decode(const std::vector<int32_t> &sequences, const std::vector<int32_t> &tokens) {
    if (sequences.size() != tokens.size())
      throw nb::value_error("as many sequences as tokens are needed");
    size_t vocab = info.vocab_size;
    auto logits = std::make_unique<float[]>(tokens.size() * vocab);
    quern_error error = {};
    quern_status status;
    {
      nb::gil_scoped_release release;
      status = QUERN_CALL(quern_decode)(model, tokens.size(), sequences.data(), tokens.data(),
                                        logits.get(), &error);
    }
    check(status, error);
    return makeArray(logits.release(), {tokens.size(), vocab});
  }
#undef QUERN_CALL
};

} // namespace

NB_MODULE(_quern, m) {
  m.def("version", [] { return std::string(quernVersion()); });
  m.def("convert", convert, nb::arg("input"), nb::arg("output"), nb::arg("format").none(),
        nb::arg("dequantize").none(), nb::arg("force"), nb::arg("progress").none());
  m.def("compile", compile, nb::arg("model"), nb::arg("output"), nb::arg("emit").none(),
        nb::arg("targets").none(), nb::arg("format").none(), nb::arg("activations").none(),
        nb::arg("kv_cache").none(), nb::arg("context"), nb::arg("weights_beside"),
        nb::arg("force"), nb::arg("solver").none(), nb::arg("text").none(),
        nb::arg("progress").none());
  nb::class_<Model>(m, "Model")
      .def(nb::init<const std::string &>())
      .def("count", &Model::count)
      .def("tensor", &Model::tensor)
      .def("read", &Model::read)
      .def("inspect", &Model::inspect)
      .def("tokenize", &Model::tokenize);
  nb::class_<Program>(m, "Program")
      .def(nb::init<const std::string &, int, int, bool>())
      .def("tokenize", &Program::tokenize)
      .def("token_bytes", &Program::tokenBytes)
      .def("new_sequence", &Program::newSequence)
      .def("free_sequence", &Program::freeSequence)
      .def("rollback", &Program::rollback)
      .def("prefill", &Program::prefill)
      .def("decode", &Program::decode)
      .def_prop_ro("vocab_size", [](const Program &p) { return p.info.vocab_size; })
      .def_prop_ro("width", [](const Program &p) { return p.info.width; })
      .def_prop_ro("context", [](const Program &p) { return p.info.context; })
      .def_prop_ro("bos", [](const Program &p) { return p.info.bos; })
      .def_prop_ro("eos", [](const Program &p) { return p.info.eos; })
      .def_prop_ro("target", [](const Program &p) { return std::string(p.info.target); })
      .def_prop_ro("metadata", [](const Program &p) { return std::string(p.info.metadata); });
}
