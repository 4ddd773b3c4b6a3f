//===- PackCode.cpp - From an ELF image to a packed stream ----------------===//
//
// Lays the image out as it will stand in memory, takes its dynamic relocations apart into plain
// lists, and packs both.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/PackCode.h"
#include "quern/Emit/Lzma.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/PackedCode.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/Object/ELF.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace llvm::object;

namespace quern::emit {

namespace {
class Packer {
public:
  explicit Packer(ELFFile<ELF64LE> elf) : elf(std::move(elf)) {}
  Expected<std::vector<uint8_t>> run();

private:
  using Place = std::pair<uint64_t, std::string>; ///< where; name and version, each with its 0
  Error readSegments();
  Error readRelocations();
  Expected<std::string> importOf(uint32_t symbol, const ELF64LE::Shdr &table);
  Error readStarters();
  void number(uint32_t v) {
    uint8_t bytes[4];
    support::endian::write32le(bytes, v);
    stream.insert(stream.end(), bytes, bytes + 4);
  }

  ELFFile<ELF64LE> elf;
  runtime::PackedCode header = {};
  std::vector<uint8_t> stream; ///< the image at first
  std::vector<uint64_t> relative;
  std::vector<Place> imports;
};

uint32_t pageUp(uint64_t v) { return uint32_t(alignTo(v, runtime::codePage)); }
uint32_t pageDown(uint64_t v) { return uint32_t(alignDown(v, runtime::codePage)); }
} // namespace

Error Packer::readSegments() {
  auto segments = elf.program_headers();
  if (!segments)
    return segments.takeError();
  uint64_t end = 0, relroEnd = 0;
  for (const auto &segment : *segments) {
    if (segment.p_type == ELF::PT_TLS)
      return createStringError("it has thread-local variables");
    if (segment.p_type == ELF::PT_GNU_RELRO)
      relroEnd = segment.p_vaddr + segment.p_memsz;
    if (segment.p_type != ELF::PT_LOAD)
      continue;
    auto contents = elf.getSegmentContents(segment);
    if (!contents)
      return contents.takeError();
    end = std::max<uint64_t>(end, segment.p_vaddr + segment.p_memsz);
    if (end > UINT32_MAX / 2)
      return createStringError("it is larger than 2 GiB");
    stream.resize(end);
    copy(*contents, stream.begin() + segment.p_vaddr);
    if (segment.p_flags & ELF::PF_X) {
      header.codeBegin = pageDown(segment.p_vaddr);
      header.codeEnd = pageUp(segment.p_vaddr + segment.p_memsz);
    }
  }
  // Nothing may be written before the end of what is constant once addresses are complete.
  header.dataBegin = std::max(header.codeEnd, pageDown(relroEnd));
  header.imageSize = pageUp(end);
  stream.resize(header.imageSize);
  return Error::success();
}

/// The name and the version that a dynamic symbol asks for; empty where it may be missing and is.
Expected<std::string> Packer::importOf(uint32_t index, const ELF64LE::Shdr &table) {
  auto symbols = elf.symbols(&table);
  auto names = elf.getStringTableForSymtab(table);
  auto sections = elf.sections();
  if (!symbols || !names || !sections)
    return createStringError("its symbols cannot be read");
  auto name = (*symbols)[index].getName(*names);
  if (!name)
    return name.takeError();
  if ((*symbols)[index].getBinding() == ELF::STB_WEAK)
    return "";
  uint16_t version = 0;
  std::string versionName;
  for (const auto &section : *sections) {
    if (section.sh_type == ELF::SHT_GNU_versym) {
      auto versions = elf.getSectionContentsAsArray<ELF64LE::Half>(section);
      if (!versions)
        return versions.takeError();
      version = (*versions)[index] & ELF::VERSYM_VERSION;
    }
  }
  for (const auto &section : *sections) {
    if (section.sh_type != ELF::SHT_GNU_verneed)
      continue;
    auto needs = elf.getVersionDependencies(section);
    if (!needs)
      return needs.takeError();
    for (const auto &need : *needs)
      for (const auto &aux : need.AuxV)
        if (aux.Other == version)
          versionName = aux.Name.c_str(); // LLVM leaves the rest of the table behind it
  }
  if (versionName.empty())
    return createStringError("'" + *name + "' is defined nowhere");
  return name->str() + '\0' + versionName + '\0';
}

Error Packer::readRelocations() {
  auto sections = elf.sections();
  if (!sections)
    return sections.takeError();
  for (const auto &section : *sections) {
    if (section.sh_type != ELF::SHT_RELA || !(section.sh_flags & ELF::SHF_ALLOC))
      continue;
    auto relocations = elf.relas(section);
    auto table = elf.getSection(section.sh_link);
    if (!relocations || !table)
      return createStringError("its relocations cannot be read");
    for (const auto &r : *relocations) {
      if (r.r_offset + 8 > stream.size())
        return createStringError("a relocation lies outside");
      support::endian::write64le(&stream[r.r_offset], r.r_addend);
      switch (r.getType(false)) {
      case ELF::R_X86_64_RELATIVE:
        relative.push_back(r.r_offset);
        break;
      case ELF::R_X86_64_64:
      case ELF::R_X86_64_GLOB_DAT:
      case ELF::R_X86_64_JUMP_SLOT: {
        auto name = importOf(r.getSymbol(false), **table);
        if (!name)
          return name.takeError();
        if (!name->empty())
          imports.emplace_back(r.r_offset, std::move(*name));
        break;
      }
      default:
        return createStringError("it has a relocation of type " + Twine(r.getType(false)));
      }
    }
  }
  return Error::success();
}

/// What the image wants called before its entry.
Error Packer::readStarters() {
  auto entries = elf.dynamicEntries();
  if (!entries)
    return entries.takeError();
  for (const auto &entry : *entries) {
    if (entry.d_tag == ELF::DT_INIT_ARRAY)
      header.starters = uint32_t(entry.d_un.d_ptr);
    if (entry.d_tag == ELF::DT_INIT_ARRAYSZ)
      header.starterCount = uint32_t(entry.d_un.d_val / 8);
  }
  return Error::success();
}

Expected<std::vector<uint8_t>> Packer::run() {
  if (Error e = readSegments())
    return e;
  if (Error e = readRelocations())
    return e;
  if (Error e = readStarters())
    return e;
  header.entry = uint32_t(elf.getHeader().e_entry);

  // The linker's own tables have served; nobody reads them in memory.
  auto sections = elf.sections();
  if (!sections)
    return sections.takeError();
  for (const auto &section : *sections)
    if ((section.sh_flags & ELF::SHF_ALLOC) &&
        is_contained({ELF::SHT_DYNSYM, ELF::SHT_STRTAB, ELF::SHT_RELA, ELF::SHT_GNU_versym,
                      ELF::SHT_GNU_verneed, ELF::SHT_GNU_HASH, ELF::SHT_DYNAMIC, ELF::SHT_NOTE},
                     unsigned(section.sh_type)))
      std::fill_n(stream.begin() + section.sh_addr, section.sh_size, 0);
  auto segments = cantFail(elf.program_headers());
  std::fill_n(stream.begin(), sizeof(ELF64LE::Ehdr) + segments.size() * sizeof(ELF64LE::Phdr), 0);

  runtime::convertAddresses<true>(stream.data(), header.codeBegin, header.codeEnd, header.imageSize);
  sort(relative);
  uint64_t last = 0;
  for (uint64_t place : relative) {
    number(uint32_t(place - last));
    last = place;
  }
  header.relocations = uint32_t(relative.size());
  std::vector<std::string> names;
  sort(imports);
  last = 0;
  for (auto &[place, name] : imports) {
    number(uint32_t(place - last));
    auto known = find(names, name);
    number(uint32_t(known - names.begin()));
    if (known == names.end())
      names.push_back(name);
    last = place;
  }
  header.imports = uint32_t(imports.size());
  header.names = uint32_t(names.size());
  for (const std::string &name : names)
    stream.insert(stream.end(), name.begin(), name.end());

  header.size = uint32_t(stream.size());
  auto packed = encodeLzma(stream);
  if (!packed)
    return packed.takeError();
  header.packedSize = uint32_t(packed->size());
  runtime::Hash64 hash;
  hash.update(packed->data(), packed->size());
  header.hash = hash.finish();
  std::vector<uint8_t> out(sizeof header);
  memcpy(out.data(), &header, sizeof header);
  out.insert(out.end(), packed->begin(), packed->end());
  return std::move(out);
}

Expected<std::vector<uint8_t>> packCode(StringRef path) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  auto elf = ELFFile<ELF64LE>::create((*buffer)->getBuffer());
  if (!elf)
    return elf.takeError();
  auto packed = Packer(std::move(*elf)).run();
  if (!packed)
    return createStringError("cannot pack the program's code: " + toString(packed.takeError()));
  return packed;
}

std::unique_ptr<Module> buildUnpackingMain(LLVMContext &context, ArrayRef<uint8_t> packed) {
  auto module = std::make_unique<Module>("quern_main", context);
  PointerType *ptr = PointerType::getUnqual(context);
  Type *i32 = Type::getInt32Ty(context);
  Constant *data = ConstantDataArray::get(context, packed);
  auto *global = new GlobalVariable(*module, data->getType(), true, GlobalValue::PrivateLinkage,
                                    data, "packed");
  global->setAlignment(Align(8));
  auto unpack = module->getOrInsertFunction(
      "quern_unpack", FunctionType::get(i32, {i32, ptr, ptr, ptr}, false));
  auto *main = Function::Create(FunctionType::get(i32, {i32, ptr, ptr}, false),
                                GlobalValue::ExternalLinkage, "main", *module);
  IRBuilder<> b(BasicBlock::Create(context, "", main));
  b.CreateRet(b.CreateCall(unpack, {main->getArg(0), main->getArg(1), main->getArg(2), global}));
  return module;
}

} // namespace quern::emit
