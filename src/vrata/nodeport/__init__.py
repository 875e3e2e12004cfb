"""Node proxy: Services become nftables rules; NodePort and ClusterIP."""
