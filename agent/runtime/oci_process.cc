// The `process` object of a bundle: what runs, as whom, with which rights.
#include <algorithm>
#include <boost/json/array.hpp>

#include "agent/runtime/oci_bundle.h"

namespace muster::agent {

namespace json = boost::json;

Result<std::vector<std::string>> container_args(const v1::ContainerSpec& spec,
                                                const ImageConfig& image) {
  std::vector<std::string> args;
  if (spec.command_size() > 0) {
    args.assign(spec.command().begin(), spec.command().end());
  } else {
    args = image.entrypoint;
  }
  if (spec.args_size() > 0) {
    args.insert(args.end(), spec.args().begin(), spec.args().end());
  } else if (spec.command_size() == 0) {
    args.insert(args.end(), image.cmd.begin(), image.cmd.end());
  }
  if (args.empty() || args[0].empty()) {
    return fail(invalid_argument("no command specified, and the image has none"));
  }
  return args;
}

std::vector<std::string> merge_env(const std::vector<std::vector<std::string>>& lists) {
  std::vector<std::string> out;
  for (const auto& list : lists) {
    for (const std::string& item : list) {
      const size_t equals = item.find('=');
      const std::string name = item.substr(0, equals);
      if (name.empty()) continue;
      const auto found = std::find_if(out.begin(), out.end(), [&](const std::string& old) {
        return old.compare(0, name.size(), name) == 0 && old[name.size()] == '=';
      });
      if (equals == std::string::npos) {
        if (found != out.end()) out.erase(found);
      } else if (found != out.end()) {
        *found = item;
      } else {
        out.push_back(item);
      }
    }
  }
  return out;
}

std::vector<std::string> container_env(const ContainerRequest& request, const std::string& home) {
  std::vector<std::string> base{
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  if (!request.hostname.empty()) base.push_back("HOSTNAME=" + request.hostname);
  if (request.spec.container().tty()) base.push_back("TERM=xterm");
  const auto& own = request.spec.container().env();
  std::vector<std::string> env =
      merge_env({base, request.image.env, {own.begin(), own.end()}, request.extra_env});
  const bool has_home = std::any_of(
      env.begin(), env.end(), [](const std::string& item) { return item.rfind("HOME=", 0) == 0; });
  if (!has_home) env.push_back("HOME=" + home);
  return env;
}

json::object user_object(const ResolvedUser& user) {
  json::object out{{"uid", user.uid}, {"gid", user.gid}};
  if (!user.groups.empty()) {
    out["additionalGids"] = json::array(user.groups.begin(), user.groups.end());
  }
  return out;
}

json::object capabilities_object(const std::vector<std::string>& names, bool root) {
  const json::array list(names.begin(), names.end());
  json::object out{{"bounding", list}};
  // A user other than root starts without any, and gains them only through file capabilities.
  if (root) {
    out["effective"] = list;
    out["permitted"] = list;
  }
  return out;
}

}  // namespace muster::agent
