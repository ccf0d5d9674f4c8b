#include "deploy/compose/canonical.h"

#include <algorithm>

#include "deploy/compose/loader.h"
#include "deploy/compose/schema.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {
namespace {

constexpr size_t kPortsMax = 65'536;

Node text_of(const Node& scalar) {
  return Node::string(scalar.scalar_text(), scalar.at);
}

// Replaces `node` by `value`, which keeps the merge tag.
void become(Node& node, Node value) {
  value.tag = node.tag;
  node = std::move(value);
}

void to_list(Node& node) {
  if (!node.is_string()) return;
  Node list = Node::list(node.at);
  list.items.push_back(Node::string(node.text, node.at));
  become(node, std::move(list));
}

void to_texts(Node& map) {
  for (Member& member : map.members) {
    if (member.value.tag == Node::Tag::kReset) continue;
    become(member.value, text_of(member.value));
  }
}

// list_or_dict to a mapping. `keep_null`: "NAME" alone and null stay null (environment), else
// they are empty.
void to_map(Node& node, bool keep_null) {
  if (node.is_list()) {
    Node map = Node::map(node.at);
    for (const Node& item : node.items) {
      const size_t equals = item.text.find('=');
      const std::string key = item.text.substr(0, equals);
      Node value = equals != std::string::npos ? Node::string(item.text.substr(equals + 1), item.at)
                   : keep_null                 ? Node::null(item.at)
                                               : Node::string("", item.at);
      map.set(key, std::move(value));
    }
    become(node, std::move(map));
    return;
  }
  for (Member& member : node.members) {
    if (member.value.tag == Node::Tag::kReset) continue;
    if (member.value.is_null() && keep_null) continue;
    become(member.value, text_of(member.value));
  }
}

class Canonicaliser {
 public:
  Canonicaliser(Dialect dialect, bool raw, std::vector<std::string>& notes)
      : spec_(dialect == Dialect::kSpec), raw_(raw), notes_(notes) {}

  Status run(Node& document) {
    if (spec_) MUSTER_TRY(read_scalars(document));
    for (const std::string_view section :
         {"services", "networks", "volumes", "secrets", "configs"}) {
      Node* entries = document.find(section);
      if (entries == nullptr) continue;
      if (entries->is_null()) become(*entries, Node::map(entries->at));
      for (Member& entry : entries->members) {
        path_ = std::string(section) + "." + entry.key;
        if (section == "services") {
          MUSTER_TRY(service(entry.value));
        } else {
          MUSTER_TRY(resource(section, entry.key, entry.value));
        }
      }
    }
    return {};
  }

 private:
  Status wrong(const Node& node, std::string_view key, std::string_view message) const {
    return error_at(node.at, fmt::format("{}.{}: {}", path_, key, message));
  }

  // Booleans and whole numbers that came as texts, from quotes or variables.
  Status read_scalars(Node& node) {
    for (size_t i = 0; i < node.items.size(); ++i) {
      keys_.push_back(std::to_string(i));
      MUSTER_TRY(read_scalars(node.items[i]));
      keys_.pop_back();
    }
    for (Member& member : node.members) {
      keys_.push_back(member.key);
      MUSTER_TRY(read_scalars(member.value));
      keys_.pop_back();
    }
    if (!node.is_string() || node.tag == Node::Tag::kReset || unread(node)) return {};
    const SchemaRule* rule = find_rule(keys_);
    if (rule == nullptr) return {};
    const unsigned types = rule->spec;
    if ((types & kB) && (types & kS)) {
      const Result<bool> flag = parse_yaml11_bool(node.text);
      if (!flag) return error_at(node.at, join_path(keys_) + " must be a boolean");
      become(node, Node::boolean(*flag, node.at));
    } else if ((types & kI) && (types & kS) && !(types & kN) && !is_text_number(rule->path)) {
      const Result<int64_t> number = parse_integer(node.text);
      if (!number) return error_at(node.at, join_path(keys_) + " must be an integer");
      become(node, Node::integer(*number, node.at));
    }
    return {};
  }

  // Numbers with a syntax of their own: port ranges, sizes.
  static bool is_text_number(std::string_view path) {
    return path == "services.*.ports.[].published" || path == "services.*.volumes.[].tmpfs.size";
  }

  Status service(Node& service) {
    for (const std::string_view key : {"dns", "dns_search", "tmpfs", "label_file"}) {
      if (Node* node = service.find(key)) to_list(*node);
    }
    for (const std::string_view key : {"labels", "annotations", "sysctls"}) {
      if (Node* node = service.find(key)) to_map(*node, false);
    }
    if (Node* node = service.find("environment")) {
      if (node->is_null()) become(*node, Node::map(node->at));
      to_map(*node, true);
    }
    for (const std::string_view key : {"command", "entrypoint"}) {
      MUSTER_TRY(words(service, key));
    }
    if (Node* build = service.find("build"); build != nullptr && build->is_string()) {
      Node map = Node::map(build->at);
      map.set("context", Node::string(build->text, build->at));
      become(*build, std::move(map));
    }
    if (Node* logging = service.find("logging")) {
      if (Node* options = logging->find("options")) to_texts(*options);
    }
    MUSTER_TRY(deploy(service));
    env_files(service);
    healthcheck(service);
    extra_hosts(service);
    depends_on(service);
    networks(service);
    devices(service);
    sources(service, "secrets");
    sources(service, "configs");
    MUSTER_TRY(ports(service));
    return volumes(service);
  }

  Status words(Node& service, std::string_view key) {
    Node* node = service.find(key);
    if (node == nullptr || !node->is_string()) return {};
    const Result<std::vector<std::string>> split = split_words(node->text);
    if (!split) return wrong(*node, key, split.error().message());
    Node list = Node::list(node->at);
    for (const std::string& word : *split) list.items.push_back(Node::string(word, node->at));
    become(*node, std::move(list));
    return {};
  }

  Status deploy(Node& service) {
    Node* deploy = service.find("deploy");
    if (deploy == nullptr) return {};
    if (Node* labels = deploy->find("labels")) to_map(*labels, false);
    return {};
  }

  void env_files(Node& service) {
    Node* files = service.find("env_file");
    if (files == nullptr) return;
    to_list(*files);
    for (Node& file : files->items) {
      if (!file.is_string()) continue;
      Node map = Node::map(file.at);
      map.set("path", Node::string(file.text, file.at));
      become(file, std::move(map));
    }
  }

  void healthcheck(Node& service) {
    Node* check = service.find("healthcheck");
    Node* test = check == nullptr ? nullptr : check->find("test");
    if (test == nullptr || !test->is_string()) return;
    Node list = Node::list(test->at);
    list.items.push_back(Node::string("CMD-SHELL", test->at));
    list.items.push_back(Node::string(test->text, test->at));
    become(*test, std::move(list));
  }

  void extra_hosts(Node& service) {
    Node* hosts = service.find("extra_hosts");
    if (hosts == nullptr) return;
    Node list = Node::list(hosts->at);
    if (hosts->is_map()) {
      for (const Member& member : hosts->members) {
        std::vector<std::string> addresses;
        for (const Node& item : member.value.items) addresses.push_back(item.text);
        if (member.value.is_scalar() && !member.value.is_null()) {
          addresses.push_back(member.value.scalar_text());
        }
        for (const std::string& address : addresses) {
          list.items.push_back(Node::string(member.key + ":" + address, member.value.at));
        }
      }
      std::stable_sort(list.items.begin(), list.items.end(),
                       [](const Node& a, const Node& b) { return a.text < b.text; });
      become(*hosts, std::move(list));
      return;
    }
    // The Specification also writes "name=address".
    for (Node& item : hosts->items) {
      const size_t equals = item.text.find('=');
      if (spec_ && equals != std::string::npos) item.text[equals] = ':';
    }
  }

  void depends_on(Node& service) {
    Node* depends = service.find("depends_on");
    if (depends == nullptr || !spec_) return;
    if (depends->is_list()) {
      Node map = Node::map(depends->at);
      for (const Node& item : depends->items) {
        Node entry = Node::map(item.at);
        entry.set("condition", Node::string("service_started", item.at));
        entry.set("required", Node::boolean(true, item.at));
        map.set(item.text, std::move(entry));
      }
      become(*depends, std::move(map));
      return;
    }
    for (Member& member : depends->members) {
      if (member.value.find("condition") == nullptr) {
        member.value.set("condition", Node::string("service_started", member.value.at));
      }
      if (member.value.find("required") == nullptr) {
        member.value.set("required", Node::boolean(true, member.value.at));
      }
    }
  }

  void networks(Node& service) {
    Node* networks = service.find("networks");
    if (networks == nullptr) return;
    if (networks->is_list()) {
      Node map = Node::map(networks->at);
      for (const Node& item : networks->items) map.set(item.text, Node::null(item.at));
      become(*networks, std::move(map));
      return;
    }
    for (Member& member : networks->members) {
      if (Node* options = member.value.find("driver_opts")) to_texts(*options);
    }
  }

  void devices(Node& service) {
    Node* devices = service.find("devices");
    if (devices == nullptr || !spec_) return;
    for (Node& device : devices->items) {
      if (!device.is_string()) continue;
      std::string_view rest = device.text;
      std::string parts[3];
      for (std::string& part : parts) {
        const size_t colon = &part == &parts[2] ? std::string_view::npos : rest.find(':');
        part = rest.substr(0, colon);
        rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
      }
      Node map = Node::map(device.at);
      map.set("source", Node::string(parts[0], device.at));
      map.set("target", Node::string(parts[1].empty() ? parts[0] : parts[1], device.at));
      map.set("permissions", Node::string(parts[2].empty() ? "rwm" : parts[2], device.at));
      become(device, std::move(map));
    }
  }

  void sources(Node& service, std::string_view key) {
    Node* list = service.find(key);
    if (list == nullptr) return;
    for (Node& item : list->items) {
      if (!item.is_string()) continue;
      Node map = Node::map(item.at);
      map.set("source", Node::string(item.text, item.at));
      become(item, std::move(map));
    }
  }

  Status ports(Node& service) {
    Node* ports = service.find("ports");
    if (ports == nullptr) return {};
    Node list = Node::list(ports->at);
    for (size_t i = 0; i < ports->items.size(); ++i) {
      const Node& item = ports->items[i];
      const std::string key = fmt::format("ports.{}", i);
      if (unread(item)) {
        list.items.push_back(item);
        continue;
      }
      if (item.is_map()) {
        MUSTER_TRY(long_port(item, key, list));
        continue;
      }
      const Result<std::vector<Node>> parsed = parse_port(item.scalar_text(), item.at);
      if (!parsed) return wrong(item, key, parsed.error().message());
      MUSTER_TRY(count_ports(item, key, parsed->size()));
      for (const Node& port : *parsed) {
        const Node* address = port.find("host_ip");
        if (!spec_ && address != nullptr) {
          if (address->text != "0.0.0.0" && address->text != "::") {
            notes_.push_back(
                fmt::format("ignoring IP-address ({}): the service will listen on "
                            "'0.0.0.0'",
                            item.scalar_text()));
          }
          Node plain = port;
          plain.erase("host_ip");
          list.items.push_back(std::move(plain));
          continue;
        }
        list.items.push_back(port);
      }
    }
    become(*ports, std::move(list));
    return {};
  }

  // A few ranges would make millions of entries.
  Status count_ports(const Node& at, const std::string& key, size_t count) {
    ports_ += count;
    if (ports_ <= kPortsMax) return {};
    return wrong(at, key, fmt::format("the file has more than {} ports", kPortsMax));
  }

  Status long_port(const Node& item, const std::string& key, Node& out) {
    const Node* target = item.find("target");
    if (target == nullptr) return wrong(item, key, "target is required");
    const Node* published = item.find("published");
    if (published == nullptr || !published->is_string() || unread(*published) || unread(*target)) {
      out.items.push_back(item);
      return {};
    }
    // Published as a text, perhaps a range: one entry per port.
    const Result<std::vector<Node>> parsed =
        parse_port(published->text.empty() ? target->scalar_text()
                                           : published->text + ":" + target->scalar_text(),
                   item.at);
    if (!parsed) return wrong(*published, key + ".published", parsed.error().message());
    MUSTER_TRY(count_ports(*published, key + ".published", parsed->size()));
    for (const Node& port : *parsed) {
      Node copy = item;
      copy.erase("published");
      if (const Node* number = port.find("published")) copy.set("published", *number);
      out.items.push_back(std::move(copy));
    }
    return {};
  }

  Status volumes(Node& service) {
    Node* volumes = service.find("volumes");
    if (volumes == nullptr) return {};
    for (size_t i = 0; i < volumes->items.size(); ++i) {
      Node& item = volumes->items[i];
      if (item.is_string() && !unread(item)) {
        Result<Node> parsed = parse_volume(item.text, item.at);
        if (!parsed) return wrong(item, fmt::format("volumes.{}", i), parsed.error().message());
        // A bind of the Specification's short form makes its source, as Compose does.
        if (spec_ && parsed->find("type")->text == "bind") {
          if (parsed->find("bind") == nullptr) parsed->set("bind", Node::map(item.at));
          parsed->find("bind")->set("create_host_path", Node::boolean(true, item.at));
        }
        become(item, *std::move(parsed));
      } else if (Node* options = item.find("volume")) {
        if (Node* labels = options->find("labels")) to_map(*labels, false);
      }
    }
    return {};
  }

  Status resource(std::string_view section, const std::string& key, Node& entry) {
    if (entry.is_null()) become(entry, Node::map(entry.at));
    if (Node* labels = entry.find("labels")) to_map(*labels, false);
    if (Node* options = entry.find("driver_opts")) to_texts(*options);
    if (Node* ipam = entry.find("ipam")) {
      if (Node* options = ipam->find("options")) to_texts(*options);
      if (Node* pools = ipam->find("config")) {
        for (Node& pool : pools->items) {
          if (Node* aux = pool.find("aux_addresses")) to_texts(*aux);
        }
      }
    }
    return external(section, key, entry);
  }

  Status external(std::string_view section, const std::string& key, Node& entry) {
    Node* external = entry.find("external");
    if (external == nullptr || external->tag == Node::Tag::kReset || unread(*external)) return {};
    if (external->kind == Node::Kind::kBool && !external->flag) {
      entry.erase("external");
      return {};
    }
    const std::string kind(section.substr(0, section.size() - 1));
    const Position at = external->at;
    if (section == "volumes") {
      for (const std::string_view option : {"driver", "driver_opts", "labels"}) {
        const Node* set = entry.find(option);
        if (set == nullptr || set->is_zero()) continue;
        return error_at(set->at, fmt::format("conflicting parameters \"external\" and \"{}\" "
                                             "specified for volume \"{}\"",
                                             option, key));
      }
    }
    const Node* old_name = external->find("name");
    const Node* name = entry.find("name");
    const bool named = name != nullptr && !name->is_zero();
    if (old_name != nullptr && !old_name->is_zero()) {
      if (named) {
        return error_at(at, fmt::format("{0} {1}: {0}.external.name and {0}.name conflict; only "
                                        "use {0}.name",
                                        kind, key));
      }
      notes_.push_back(
          fmt::format("{0} {1}: {0}.external.name is deprecated in favor of {0}.name", kind, key));
      entry.set("name", Node::string(old_name->scalar_text(), old_name->at));
    } else if (!named) {
      entry.set("name", Node::string(key, at));
    }
    become(*entry.find("external"), Node::boolean(true, at));
    return {};
  }

  // A text whose variables are still in it: nothing can be read from it.
  bool unread(const Node& node) const {
    return raw_ && node.is_string() && node.text.find('$') != std::string::npos;
  }

  bool spec_;
  bool raw_;
  std::vector<std::string>& notes_;
  std::string path_;
  std::vector<std::string> keys_;
  size_t ports_ = 0;
};

bool is_windows_path(std::string_view path) {
  return path.starts_with("\\\\") ||
         (path.size() > 2 && path[1] == ':' && (path[2] == '\\' || path[2] == '/'));
}

}  // namespace

Status canonicalise(Node& document, Dialect dialect, bool raw, std::vector<std::string>& notes) {
  return Canonicaliser(dialect, raw, notes).run(document);
}

Status resolve_paths(Node& document, std::string_view working_dir, std::string_view home,
                     bool raw) {
  const auto absolute = [&](Node* path) {
    if (path == nullptr || !path->is_string() || path->text.empty()) return;
    if (raw && path->text[0] == '$') return;
    if (path->text[0] == '~' && !home.empty())
      path->text = std::string(home) + path->text.substr(1);
    if (is_windows_path(path->text)) return;
    path->text = join_file_path(working_dir, path->text);
  };
  if (Node* services = document.find("services")) {
    for (Member& service : services->members) {
      if (Node* files = service.value.find("env_file")) {
        for (Node& file : files->items) absolute(file.find("path"));
      }
      if (Node* files = service.value.find("label_file")) {
        for (Node& file : files->items) absolute(&file);
      }
      if (Node* extends = service.value.find("extends")) absolute(extends->find("file"));
      Node* volumes = service.value.find("volumes");
      for (size_t i = 0; volumes != nullptr && i < volumes->items.size(); ++i) {
        Node& volume = volumes->items[i];
        const Node* type = volume.find("type");
        if (type == nullptr || type->text != "bind") continue;
        Node* source = volume.find("source");
        if (source == nullptr || source->is_zero()) {
          return error_at(volume.at, fmt::format("services.{}.volumes.{}: invalid mount config for "
                                                 "type \"bind\": field Source must not be empty",
                                                 service.key, i));
        }
        absolute(source);
      }
    }
  }
  for (const std::string_view section : {"secrets", "configs"}) {
    Node* entries = document.find(section);
    for (size_t i = 0; entries != nullptr && i < entries->members.size(); ++i) {
      absolute(entries->members[i].value.find("file"));
    }
  }
  return {};
}

}  // namespace muster::deploy::compose
