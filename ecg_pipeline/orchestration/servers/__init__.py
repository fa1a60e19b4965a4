"""The servers behind `ecg-pipeline ui`, each a process of its own, and what starts, watches and ends them.

Dagster's code server, webserver and daemon, MLflow's tracking server, and the page server for reports and pictures.
"""
