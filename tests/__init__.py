"""Tests of pcap2arrow, and what they share."""
