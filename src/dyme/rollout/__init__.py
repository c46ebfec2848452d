"""Rollouts: samples in, groups of K completions out."""
