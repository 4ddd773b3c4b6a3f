//===- Open.cpp - Opens a model, whatever its container -------------------===//
//
// Tells containers apart, maps headers, follows split and sharded models to their
// other files.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "quern/Import/Parsers.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <set>

using namespace llvm;

namespace quern::import {

// Text files are read whole; these bounds keep a hostile directory from filling the memory.
static constexpr uint64_t maxConfig = uint64_t(16) << 20;
static constexpr uint64_t maxTokenizer = uint64_t(256) << 20;
static constexpr unsigned maxSplits = 99999; // what the file name has digits for

static Expected<uint64_t> fileSize(StringRef path) {
  sys::fs::file_status status;
  if (std::error_code code = sys::fs::status(path, status))
    return fileError(path, code.message());
  if (!sys::fs::is_regular_file(status))
    return fileError(path, "expected a regular file");
  return status.getSize();
}

/// Maps the file (no anonymous memory for large ones).
static Expected<std::unique_ptr<MemoryBuffer>> mapFile(StringRef path) {
  if (Expected<uint64_t> size = fileSize(path); !size)
    return size.takeError();
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return fileError(path, buffer.getError().message());
  return std::move(*buffer);
}

using Parse = Error(StringRef bytes, uint64_t fileSize, StringRef path, unsigned file,
                    ModelFile &model);

/// Appends the file at `path` to the model: its tensors and metadata.
static Error addFile(ModelFile &model, StringRef path, Parse parse) {
  auto buffer = mapFile(path);
  if (!buffer)
    return buffer.takeError();
  unsigned file = model.files.size();
  model.files.push_back({path.str(), (*buffer)->getBufferSize()});
  return parse((*buffer)->getBuffer(), (*buffer)->getBufferSize(), path, file, model);
}

//===--- GGUF -------------------------------------------------------------===//

/// `model-00001-of-00003.gguf` -> `model`, 1, 3.
static bool parseSplitName(StringRef path, StringRef &prefix, unsigned &number, unsigned &count) {
  if (!path.consume_back(".gguf") || path.size() < 15)
    return false;
  StringRef tail = path.take_back(15);
  prefix = path.drop_back(15);
  return tail[0] == '-' && tail.substr(6, 4) == "-of-" &&
         !tail.substr(1, 5).getAsInteger(10, number) && !tail.substr(10, 5).getAsInteger(10, count);
}

static Error addSplits(ModelFile &model, StringRef path, uint64_t count) {
  auto error = [&](const Twine &message) { return fileError(path, "GGUF: " + message); };
  StringRef prefix;
  unsigned number = 0, named = 0;
  if (count > maxSplits)
    return error("'split.count' is " + Twine(count) + "; at most " + Twine(maxSplits) +
                 " files are supported");
  if (!parseSplitName(path, prefix, number, named) || named != count || number != 1)
    return error("the model is split over " + Twine(count) +
                 " files; expected the first one's name to end in " + "'-00001-of-" +
                 formatv("{0,0+5}", count).str() + ".gguf'");
  for (unsigned i = 2; i <= count; ++i) {
    std::string next = formatv("{0}-{1,0+5}-of-{2,0+5}.gguf", prefix, i, count);
    ModelFile part; // only to look at its own metadata
    unsigned file = model.files.size();
    if (Error e = addFile(part, next, parseGGUF))
      return e;
    std::optional<int64_t> no = integerOf(part.metadata.get("split.no")),
                           of = integerOf(part.metadata.get("split.count"));
    if (!no || !of || *no != int64_t(i - 1) || *of != int64_t(count))
      return fileError(next, "GGUF: expected 'split.no' " + Twine(i - 1) + " and 'split.count' " +
                                 Twine(count) + ", found " + (no ? Twine(*no) : Twine("nothing")) +
                                 " and " + (of ? Twine(*of) : Twine("nothing")));
    StringSet<> names;
    for (const TensorInfo &tensor : model.tensors)
      names.insert(tensor.name);
    for (TensorInfo &tensor : part.tensors) {
      if (names.contains(tensor.name))
        return fileError(next, "GGUF: tensor '" + tensor.name + "' occurs in an earlier file too");
      tensor.file = file;
      model.tensors.push_back(std::move(tensor));
    }
    model.files.push_back(part.files.front());
  }
  std::optional<int64_t> tensors = integerOf(model.metadata.get("split.tensors.count"));
  if (tensors && *tensors != int64_t(model.tensors.size()))
    return error("'split.tensors.count' is " + Twine(*tensors) + ", but the files hold " +
                 Twine(model.tensors.size()) + " tensors");
  return Error::success();
}

static Error openGGUF(ModelFile &model, StringRef path) {
  model.container = Container::GGUF;
  if (Error e = addFile(model, path, parseGGUF))
    return e;
  std::optional<int64_t> count = integerOf(model.metadata.get("split.count")),
                         no = integerOf(model.metadata.get("split.no"));
  if (count && *count > 1) {
    if (no && *no != 0)
      return fileError(path, "GGUF: this is file " + Twine(*no + 1) + " of " + Twine(*count) +
                                 " of a split model; open the first one");
    if (Error e = addSplits(model, path, *count))
      return e;
  }
  std::optional<StringRef> architecture = model.metadata.getString("general.architecture");
  return model.indexTensors(architecture.value_or(""));
}

//===--- Hugging Face -----------------------------------------------------===//

/// Reads `directory/name` into metadata[key] if it exists.
static Error addJson(ModelFile &model, StringRef directory, StringRef name, StringRef key,
                     uint64_t limit) {
  SmallString<256> path(directory);
  sys::path::append(path, name);
  if (!sys::fs::exists(path))
    return Error::success();
  auto buffer = mapFile(path);
  if (!buffer)
    return buffer.takeError();
  if ((*buffer)->getBufferSize() > limit)
    return fileError(path, "the file has " + Twine((*buffer)->getBufferSize()) +
                               " bytes; at most " + Twine(limit) + " are supported");
  Expected<json::Value> value = parseJson((*buffer)->getBuffer(), path);
  if (!value)
    return value.takeError();
  if (!value->getAsObject())
    return fileError(path, "expected a JSON object");
  model.metadata[key] = std::move(*value);
  return Error::success();
}

static Error addTemplate(ModelFile &model, StringRef directory) {
  SmallString<256> path(directory);
  sys::path::append(path, "chat_template.jinja");
  if (!sys::fs::exists(path))
    return Error::success();
  auto buffer = mapFile(path);
  if (!buffer)
    return buffer.takeError();
  StringRef text = (*buffer)->getBuffer();
  if (text.size() > maxConfig)
    return fileError(path, "the file has " + Twine(text.size()) + " bytes; at most " +
                               Twine(maxConfig) + " are supported");
  if (!json::isUTF8(text))
    return fileError(path, "not valid UTF-8");
  model.metadata["chat_template"] = text.str();
  return Error::success();
}

/// The shards of `model.safetensors.index.json`, and the tensors each must hold.
static Error addShards(ModelFile &model, StringRef directory, StringRef indexPath) {
  auto buffer = mapFile(indexPath);
  if (!buffer)
    return buffer.takeError();
  Expected<json::Value> value = parseJson((*buffer)->getBuffer(), indexPath);
  if (!value)
    return value.takeError();
  const json::Object *root = value->getAsObject();
  const json::Object *map = root ? root->getObject("weight_map") : nullptr;
  if (!map)
    return fileError(indexPath, "expected an object with a 'weight_map'");
  std::set<std::string> shards; // sorted, so that the order of files is always the same
  for (const auto &entry : *map) {
    std::optional<StringRef> shard = entry.second.getAsString();
    if (!shard)
      return fileError(indexPath, "expected the file of tensor '" + StringRef(entry.first) +
                                      "' to be a string");
    // A shard lies beside its index: a name that leads elsewhere is not one we follow.
    if (shard->empty() || sys::path::filename(*shard) != *shard || *shard == "." || *shard == "..")
      return fileError(indexPath,
                       "'" + *shard + "' is not the name of a file in the same directory");
    shards.insert(shard->str());
  }
  StringMap<StringRef> home;
  for (const std::string &shard : shards) {
    SmallString<256> path(directory);
    sys::path::append(path, shard);
    size_t first = model.tensors.size();
    if (Error e = addFile(model, path, parseSafetensors))
      return e;
    for (size_t i = first; i < model.tensors.size(); ++i) {
      auto [entry, fresh] = home.try_emplace(model.tensors[i].name, shard);
      if (!fresh)
        return fileError(path, "tensor '" + model.tensors[i].name + "' occurs in '" +
                                   entry->second + "' too");
    }
  }
  for (const auto &entry : *map) {
    auto found = home.find(StringRef(entry.first));
    if (found == home.end() || found->second != *entry.second.getAsString())
      return fileError(indexPath, "tensor '" + StringRef(entry.first) + "' is not in '" +
                                      *entry.second.getAsString() + "'");
  }
  return Error::success();
}

static Error addWeights(ModelFile &model, StringRef directory) {
  SmallString<256> single(directory), index(directory);
  sys::path::append(single, "model.safetensors");
  sys::path::append(index, "model.safetensors.index.json");
  if (sys::fs::exists(single))
    return addFile(model, single, parseSafetensors);
  if (sys::fs::exists(index))
    return addShards(model, directory, index);
  std::error_code code;
  for (sys::fs::directory_iterator i(directory, code), end; i != end && !code; i.increment(code)) {
    StringRef name = sys::path::filename(i->path());
    if (name.ends_with(".bin") && name.starts_with("pytorch_model"))
      return fileError(directory,
                       "the weights are pickled ('" + name + "'); only .safetensors are read");
  }
  // A directory with a tokenizer alone is a vocabulary.
  if (!model.metadata.get("tokenizer"))
    return fileError(directory,
                     "found neither 'model.safetensors' nor 'model.safetensors.index.json'");
  return Error::success();
}

static Error openDirectory(ModelFile &model, StringRef directory) {
  model.container = Container::HuggingFace;
  if (Error e = addJson(model, directory, "config.json", "config", maxConfig))
    return e;
  const json::Object *config = model.metadata.getObject("config");
  if (config) {
    SmallString<256> path(directory);
    sys::path::append(path, "config.json");
    if (Error e = refuseQuantized(*config, path))
      return e;
  }
  if (Error e = addJson(model, directory, "generation_config.json", "generation_config", maxConfig))
    return e;
  if (Error e = addJson(model, directory, "tokenizer.json", "tokenizer", maxTokenizer))
    return e;
  if (Error e = addJson(model, directory, "tokenizer_config.json", "tokenizer_config", maxConfig))
    return e;
  if (Error e = addTemplate(model, directory))
    return e;
  if (!config && !model.metadata.get("tokenizer"))
    return fileError(directory,
                     "not a model directory: found neither 'config.json' nor 'tokenizer.json'");
  if (Error e = addWeights(model, directory))
    return e;
  return model.indexTensors(config ? architectureOf(*config) : "");
}

Expected<ModelFile> open(StringRef path) {
  ModelFile model;
  model.path = path.str();
  sys::fs::file_status status;
  if (std::error_code code = sys::fs::status(path, status))
    return fileError(path, code.message());
  if (sys::fs::is_directory(status)) {
    if (Error e = openDirectory(model, path))
      return std::move(e);
    return model;
  }
  auto buffer = MemoryBuffer::getFileSlice(path, std::min<uint64_t>(status.getSize(), 16), 0);
  if (!sys::fs::is_regular_file(status) || !buffer)
    return fileError(path, "expected a regular file or a directory");
  StringRef start = (*buffer)->getBuffer();
  if (start.starts_with("GGUF")) {
    if (Error e = openGGUF(model, path))
      return std::move(e);
    return model;
  }
  if (path.ends_with(".safetensors") || (start.size() > 8 && start[8] == '{')) {
    model.container = Container::HuggingFace;
    if (Error e = addFile(model, path, parseSafetensors))
      return std::move(e);
    if (Error e = model.indexTensors(""))
      return std::move(e);
    return model;
  }
  return fileError(path, "neither GGUF (no magic 'GGUF' at byte 0) nor safetensors");
}

} // namespace quern::import
