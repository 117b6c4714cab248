// Variables of many shapes, some of them constrained, and a point that is refused.
data {
  real limit;
}
parameters {
  array[2, 3] real a;
  matrix[2, 3] m;
  array[2] simplex[3] w;
  cholesky_factor_corr[3] chol;
  real<lower=0> zeta;
  real alpha;
}
transformed parameters {
  real twice = 2 * zeta;
}
model {
  if (alpha > limit) {
    reject("alpha is above the limit");
  }
  to_array_1d(a) ~ std_normal();
  to_vector(m) ~ normal(1, 2);
  w[1] ~ dirichlet([1, 2, 3]');
  w[2] ~ dirichlet([2, 2, 2]');
  chol ~ lkj_corr_cholesky(2);
  zeta ~ exponential(1);
  alpha ~ std_normal();
}
