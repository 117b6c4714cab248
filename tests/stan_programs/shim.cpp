// Stan models behind a few C functions: what capriole asks of a bridgestan.StanModel.
//
// This is Stan (its compiler's output and its library), and not BridgeStan: it is compiled against
// the headers that the httpstan wheel has. The file is included behind all programs, whose
// factories STAN_PROGRAMS lists as PROGRAM(name).
#include <stan/io/empty_var_context.hpp>
#include <stan/io/json/json_data.hpp>
#include <stan/model/log_prob_grad.hpp>
#include <stan/services/util/create_rng.hpp>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

thread_local std::string last_error;

template <class Work>
int guarded(Work work) {
  // Stan has one tape per thread, and JAX calls from threads of its own.
  static thread_local stan::math::ChainableStack stack;
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

struct Handle {
  stan::model::model_base* model;
  std::string names, free_names;

  ~Handle() { delete model; }
};

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const auto& part : parts) all += (all.empty() ? "" : ",") + part;
  return all;
}

stan::model::model_base& made(const std::string& name, stan::io::var_context& data) {
#define PROGRAM(program) \
  if (name == #program) return new_model_##program(data, 1, &std::cerr);
  STAN_PROGRAMS
#undef PROGRAM
  throw std::runtime_error("no program " + name);
}

stan::model::model_base& model_of(void* handle) { return *static_cast<Handle*>(handle)->model; }

}  // namespace

extern "C" {

const char* stan_error() { return last_error.c_str(); }

void* stan_new(const char* name, const char* json) {
  Handle* handle = nullptr;
  guarded([&] {
    std::stringstream text(json);
    stan::json::json_data data(text);
    handle = new Handle{&made(name, data), "", ""};
    std::vector<std::string> names, free_names;
    handle->model->constrained_param_names(names, true, true);
    handle->model->unconstrained_param_names(free_names, false, false);
    handle->names = joined(names);
    handle->free_names = joined(free_names);
  });
  return handle;
}

void stan_delete(void* handle) { delete static_cast<Handle*>(handle); }

const char* stan_names(void* handle) { return static_cast<Handle*>(handle)->names.c_str(); }

const char* stan_free_names(void* handle) {
  return static_cast<Handle*>(handle)->free_names.c_str();
}

int stan_dim(void* handle) { return static_cast<int>(model_of(handle).num_params_r()); }

int stan_gradient(void* handle, const double* position, double* value, double* gradient) {
  return guarded([&] {
    auto& model = model_of(handle);
    std::vector<double> at(position, position + model.num_params_r()), out;
    std::vector<int> none;
    *value = stan::model::log_prob_grad<true, true>(model, at, none, out, nullptr);
    std::copy(out.begin(), out.end(), gradient);
  });
}

int stan_constrain(void* handle, const double* position, unsigned int seed, double* out) {
  return guarded([&] {
    auto& model = model_of(handle);
    auto random = stan::services::util::create_rng(seed, 1);
    std::vector<double> at(position, position + model.num_params_r()), values;
    std::vector<int> none;
    model.write_array(random, at, none, values, true, true, nullptr);
    std::copy(values.begin(), values.end(), out);
  });
}

}  // extern "C"
