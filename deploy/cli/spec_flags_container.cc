// What the lists of options do to a container: environment, mounts, names, limits, capabilities.
#include <algorithm>
#include <map>
#include <set>

#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {
namespace {

using google::protobuf::RepeatedPtrField;

std::string variable_of(const std::string& entry) {
  return entry.substr(0, entry.find('='));
}

// Variables of a file: blank lines and comments aside. A name alone takes its value from the
// environment, and is left out where that has none, as Docker does.
Status read_env_file(const std::string& file, const std::string& content,
                     const std::map<std::string, std::string>& environment,
                     std::vector<std::string>* entries) {
  for (std::string entry : split(content, '\n')) {
    entry.erase(0, entry.find_first_not_of(" \t"));
    if (!entry.empty() && entry.back() == '\r') entry.pop_back();
    if (entry.empty() || entry[0] == '#') continue;
    const std::string name = variable_of(entry);
    if (name.empty())
      return usage_error(fmt::format("{}: no variable name on line '{}'", file, entry));
    if (name.find_first_of(" \t") != std::string::npos)
      return usage_error(fmt::format("{}: variable '{}' contains whitespaces", file, name));
    if (entry.find('=') == std::string::npos && !environment.contains(name)) continue;
    entries->push_back(entry);
  }
  return ok_status();
}

// Names as the kernel's headers write them, each once.
std::set<std::string> capabilities(const auto& names) {
  std::set<std::string> out;
  for (const std::string& name : names) {
    std::string upper;
    for (const char c : name) upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    if (upper != "ALL" && upper != "RESET" && !upper.starts_with("CAP_")) upper = "CAP_" + upper;
    out.insert(upper);
  }
  return out;
}

void put_capabilities(const std::set<std::string>& names, RepeatedPtrField<std::string>* out) {
  out->Clear();
  if (names.contains("ALL")) {
    *out->Add() = "ALL";
    return;
  }
  for (const std::string& name : names)
    if (name != "RESET") *out->Add() = name;
}

// One option on update: what is on the other list is only taken off there; RESET empties its own.
void change_capabilities(std::set<std::string> named, const std::set<std::string>& spared,
                         std::set<std::string>* own, std::set<std::string>* other) {
  if (named.erase("RESET") != 0) own->clear();
  for (const std::string& name : named) {
    if (spared.contains(name)) continue;
    if (other->erase(name) == 0) own->insert(name);
  }
}

}  // namespace

Status SpecFlags::apply_environment(
    v1::ContainerSpec* container, For, const std::map<std::string, std::string>& environment,
    const std::function<Result<std::string>(const std::string&)>& read) const {
  std::vector<std::string> entries;
  for (const std::string& file : env_files_) {
    MUSTER_ASSIGN(const std::string content, read(file));
    MUSTER_TRY(read_env_file(file, content, environment, &entries));
  }
  entries.insert(entries.end(), env_.add.begin(), env_.add.end());
  for (const std::string& gone : env_.remove)
    remove_if(container->mutable_env(),
              [&](const auto& entry) { return variable_of(entry) == gone; });
  for (std::string entry : entries) {
    if (entry.empty() || entry[0] == '=')
      return usage_error(fmt::format("invalid environment variable: {}", entry));
    // A name that has no value here either unsets what the image says.
    if (entry.find('=') == std::string::npos)
      if (const auto it = environment.find(entry); it != environment.end())
        entry += "=" + it->second;
    remove_if(container->mutable_env(),
              [&](const auto& old) { return variable_of(old) == variable_of(entry); });
    container->add_env(entry);
  }
  return ok_status();
}

Status SpecFlags::apply_mounts(v1::ContainerSpec* container, For command,
                               const std::string& current_dir) const {
  for (const std::string& target : mounts_.remove)
    remove_if(container->mutable_mounts(),
              [&](const v1::Mount& mount) { return mount.target() == target; });
  std::set<std::string> targets;
  for (const std::string& text : mounts_.add) {
    MUSTER_ASSIGN(const v1::Mount mount, parsed("mount", text, [&](const std::string& value) {
                    return parse_mount(value, current_dir);
                  }));
    if (!targets.insert(mount.target()).second)
      return usage_error(fmt::format("duplicate mount target: {}", mount.target()));
    if (command == For::kUpdate)
      remove_if(container->mutable_mounts(),
                [&](const v1::Mount& old) { return old.target() == mount.target(); });
    *container->add_mounts() = mount;
  }
  return ok_status();
}

Status SpecFlags::apply_dns(v1::ContainerSpec* container) const {
  if (dns_.empty() && dns_options_.empty() && dns_search_.empty()) return ok_status();
  ListChange servers{{}, dns_.remove};
  for (const std::string& text : dns_.add) {
    MUSTER_ASSIGN(const std::string server, parsed("dns", text, parse_ip_address));
    servers.add.push_back(server);
  }
  for (const std::string& domain : dns_search_.add)
    if (domain.empty() || domain.find_first_of(" \t/") != std::string::npos)
      return usage_error(fmt::format("{} is not a valid domain", domain));
  change_strings(container->mutable_dns()->mutable_nameservers(), servers);
  change_strings(container->mutable_dns()->mutable_options(), dns_options_);
  change_strings(container->mutable_dns()->mutable_search(), dns_search_);
  return ok_status();
}

// "NAME" goes from every line, "NAME:ADDRESS" from that address's alone.
Status SpecFlags::apply_hosts(v1::ContainerSpec* container) const {
  for (const std::string& gone : hosts_.remove) {
    const size_t colon = gone.find(':');
    const std::string name = gone.substr(0, colon);
    const std::string address = colon == std::string::npos ? "" : gone.substr(colon + 1);
    RepeatedPtrField<std::string> kept;
    for (const std::string& line : container->hosts()) {
      std::vector<std::string> words = split(line, ' ');
      if (address.empty() || words[0] == address)
        words.erase(std::remove(words.begin() + 1, words.end(), name), words.end());
      if (words.size() > 1) *kept.Add() = join(words, " ");
    }
    *container->mutable_hosts() = kept;
  }
  ListChange change;
  for (const std::string& text : hosts_.add) {
    MUSTER_ASSIGN(const std::string host, parsed("host", text, parse_host));
    change.add.push_back(host);
  }
  change_strings(container->mutable_hosts(), change);
  return ok_status();
}

void SpecFlags::apply_capabilities(v1::ContainerSpec* container, For command) const {
  if (cap_add_.empty() && cap_drop_.empty()) return;
  const std::set<std::string> to_add = capabilities(cap_add_);
  const std::set<std::string> to_drop = capabilities(cap_drop_);
  std::set<std::string> added = capabilities(container->capability_add());
  std::set<std::string> dropped = capabilities(container->capability_drop());
  if (command == For::kCreate) {
    // Adding wins over dropping the same.
    added = to_add;
    std::set_difference(to_drop.begin(), to_drop.end(), to_add.begin(), to_add.end(),
                        std::inserter(dropped, dropped.end()));
  } else {
    std::set<std::string> spared = to_add;
    spared.erase("RESET");
    if (to_add.contains("RESET")) added.clear();
    change_capabilities(to_drop, spared, &dropped, &added);
    change_capabilities(to_add, {}, &added, &dropped);
  }
  put_capabilities(added, container->mutable_capability_add());
  put_capabilities(dropped, container->mutable_capability_drop());
}

Status SpecFlags::apply_container_lists(v1::ContainerSpec* container, For command,
                                        const std::string& current_dir) const {
  change_pairs(container->mutable_labels(), container_labels_);
  change_strings(container->mutable_groups(), groups_);
  MUSTER_TRY(apply_mounts(container, command, current_dir));
  MUSTER_TRY(apply_dns(container));
  MUSTER_TRY(apply_hosts(container));
  change_pairs(container->mutable_sysctls(), sysctls_);
  for (const std::string& gone : ulimits_.remove)
    remove_if(container->mutable_ulimits(),
              [&](const v1::Ulimit& ulimit) { return ulimit.name() == gone; });
  for (const std::string& text : ulimits_.add) {
    MUSTER_ASSIGN(const v1::Ulimit ulimit, parsed("ulimit", text, parse_ulimit));
    remove_if(container->mutable_ulimits(),
              [&](const v1::Ulimit& old) { return old.name() == ulimit.name(); });
    *container->add_ulimits() = ulimit;
  }
  apply_capabilities(container, command);
  return ok_status();
}

}  // namespace muster::deploy::cli
