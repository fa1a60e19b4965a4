"""The ECGs of a task: their labels, their split by patient, and the nested fractions of the training patients."""
