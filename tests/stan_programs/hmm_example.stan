// Two hidden states, summed out by the forward algorithm.
data {
  int<lower=1> N;
  vector[N] y;
}
parameters {
  simplex[2] theta1;
  simplex[2] theta2;
  positive_ordered[2] mu;
}
model {
  matrix[2, 2] moves = [log(theta1)', log(theta2)'];
  vector[2] forward;
  mu[1] ~ normal(3, 1);
  mu[2] ~ normal(10, 1);
  for (k in 1:2) {
    forward[k] = normal_lpdf(y[1] | mu[k], 1);
  }
  for (n in 2:N) {
    vector[2] next;
    for (k in 1:2) {
      next[k] = log_sum_exp(forward + moves[, k]) + normal_lpdf(y[n] | mu[k], 1);
    }
    forward = next;
  }
  target += log_sum_exp(forward);
}
