"""Cloud provider: a Service of type LoadBalancer becomes a load balancer and an address."""
